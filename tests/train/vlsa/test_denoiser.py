"""The denoiser: its loss is diffusers' arithmetic, its draws follow from the samples alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from pad_pipeline.errors import UserError
from pad_pipeline.train.vlsa.denoiser import Denoiser
from pad_pipeline.train.vlsa.denoiser_files import load_denoiser
from tests.train.vlsa.toy_denoiser import write_denoiser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_denoiser(tmp_path_factory.mktemp("denoiser"))


@pytest.fixture(scope="module")
def denoiser(folder: Path) -> Denoiser:
    return load_denoiser(folder).eval()


def test_sizes(denoiser: Denoiser) -> None:
    assert denoiser.image_size == 32
    assert denoiser.condition_width == 24
    images = torch.rand(2, 3, 50, 50)
    assert denoiser.encode(images).shape == (2, 4, 8, 8)
    made = denoiser.sample(torch.randn(2, 6, 24), ["a", "b"], num_steps=2)
    assert made.shape == (2, 3, 32, 32)
    assert 0 <= float(made.min()) <= float(made.max()) <= 1


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_loss_is_the_error_of_what_the_scheduler_says(tmp_path: Path, kind: str) -> None:
    denoiser = load_denoiser(write_denoiser(tmp_path, prediction_type=kind)).eval()
    images, condition = torch.rand(2, 3, 32, 32), torch.randn(2, 5, 24)
    loss = denoiser.loss(images, condition, ["a", "b"])
    latents = denoiser.encode(images)
    times, noise = denoiser._draw(latents, ["a", "b"])
    share = denoiser.noise.alphas_cumprod[times].view(-1, 1, 1, 1)
    noisy = share.sqrt() * latents + (1 - share).sqrt() * noise
    wanted = {
        "epsilon": noise,
        "sample": latents,
        "v_prediction": share.sqrt() * noise - (1 - share).sqrt() * latents,
    }[kind]
    predicted = denoiser.transformer(
        noisy,
        encoder_hidden_states=condition,
        timestep=times,
        added_cond_kwargs={"resolution": None, "aspect_ratio": None},
    ).sample[:, :4]
    expected = (predicted - wanted).square().mean((1, 2, 3)).sum()
    torch.testing.assert_close(loss, expected)


def test_a_sample_draws_the_same_in_any_batch(denoiser: Denoiser) -> None:
    images, condition = torch.rand(3, 3, 32, 32), torch.randn(3, 5, 24)
    words = ["0/1/a", "0/1/b", "0/1/c"]
    together = denoiser.loss(images, condition, words)
    alone = [denoiser.loss(images[i : i + 1], condition[i : i + 1], [words[i]]) for i in range(3)]
    torch.testing.assert_close(together, torch.stack(alone).sum(), rtol=1e-5, atol=1e-6)
    later = denoiser.loss(images, condition, [f"0/2/{word}" for word in "abc"])
    assert abs(float((later - together).detach())) > 1e-4


def test_no_image_is_a_loss_of_zero_with_gradients_of_zero(denoiser: Denoiser) -> None:
    """Workers that share a sharded model must have gradients of the same weights."""
    condition = torch.zeros(0, 5, 24, requires_grad=True)
    loss = denoiser.loss(torch.zeros(0, 3, 32, 32), condition, [])
    loss.backward()
    assert float(loss.detach()) == 0
    gradients = [each.grad for each in denoiser.transformer.parameters()]
    assert all(each is not None and not each.any() for each in gradients)
    denoiser.zero_grad(set_to_none=True)


def test_the_autoencoder_stays_as_it_is_used(denoiser: Denoiser) -> None:
    denoiser.train()
    assert denoiser.transformer.training
    assert not denoiser.autoencoder.training
    denoiser.eval()


def test_noise_and_latents_must_be_those_of_a_diffusion_model(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="predicts 'flow_prediction'; it must be 'epsilon'"):
        load_denoiser(
            _changed(folder, tmp_path / "flow", "scheduler", prediction_type="flow_prediction")
        )
    other = load_denoiser(folder)
    other.autoencoder.register_to_config(latent_channels=3)
    with pytest.raises(UserError, match="takes latents of 4 channels, but its autoencoder gives 3"):
        Denoiser(other.transformer, other.autoencoder, other.noise)


def _changed(folder: Path, target: Path, part: str, **values: object) -> Path:
    shutil.copytree(folder, target)
    name = "scheduler_config.json" if part == "scheduler" else "config.json"
    path = target / part / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return target
