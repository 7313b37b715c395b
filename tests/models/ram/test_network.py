"""RAM's and RAM++'s networks against the outputs of the original models."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.models.ram.config import RamConfig
from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.verify.ram import golden_outputs
from tests.golden_data import golden_dir
from tests.models.ram.golden import BOTH, read_config, read_model, read_pixels


@BOTH
@torch.no_grad()
def test_every_golden_tensor(name: str):
    expected = load_file(golden_dir(name) / "expected.safetensors")
    outputs = golden_outputs(read_model(name), read_pixels(name))
    assert expected
    assert expected.keys() <= outputs.keys()
    for key, tensor in expected.items():
        assert outputs[key].shape == tensor.shape, key
        assert outputs[key].dtype == tensor.dtype, key
        if tensor.dtype == torch.bool:
            assert torch.equal(outputs[key], tensor), key
        else:
            torch.testing.assert_close(outputs[key], tensor, atol=1e-4, rtol=0, msg=key)
    tags = read_config(name).tags
    found = [[tags[i] for i in row.nonzero()[:, 0]] for row in outputs["fired"]]
    assert found == json.loads((golden_dir(name) / "expected.json").read_text())["tags"]


@BOTH
@torch.no_grad()
def test_a_batch_equals_its_images_alone(name: str):
    model, pixels = read_model(name), read_pixels(name)
    alone = torch.cat([model(image[None]) for image in pixels])
    torch.testing.assert_close(model(pixels), alone, atol=1e-5, rtol=0)


@BOTH
def test_gradients_reach_every_parameter(name: str):
    model = read_model(name).train()
    with torch.no_grad():
        without = model(read_pixels(name)[:1])
    logits = model(read_pixels(name)[:1])
    torch.testing.assert_close(logits, without)
    logits.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.abs().max() > 0, key


@torch.no_grad()
def test_kept_labels_follow_the_parameters():
    model, pixels = read_model("ram_tiny"), read_pixels("ram_tiny")[:1]
    before = model(pixels)
    assert model.labels() is model.labels()

    def logits_of_a_new_model() -> Tensor:
        fresh = RecognizeAnything(model.config)
        fresh.load_state_dict(model.state_dict())
        return fresh.eval()(pixels)

    model.train()
    model.label_embed.mul_(0.5)
    model.eval()
    after = model(pixels)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(after, logits_of_a_new_model())

    state = model.state_dict()
    model.load_state_dict({**state, "label_embed": state["label_embed"] * 2})
    torch.testing.assert_close(model(pixels), before)
    assert model.double()(pixels.double()).dtype == torch.float64


def test_labels_are_not_kept_while_gradients_are_taken():
    model = read_model("ram_tiny")
    with torch.no_grad():
        model(read_pixels("ram_tiny")[:1])
    model(read_pixels("ram_tiny")[:1]).sum().backward()
    assert model.label_embed.grad is not None


@torch.no_grad()
def test_a_stage_smaller_than_the_window_has_a_window_of_its_own_size():
    sizes = {"tags": ("a", "b"), "thresholds": (0.5, 0.5), "image_size": 16, "patch_size": 4,
             "embed_dim": 8, "depths": (2, 2), "num_heads": (2, 2), "hidden_size": 16,
             "intermediate_size": 16, "image_proj_dim": 8, "label_dim": 8}  # fmt: skip
    # a 4x4 and a 2x2 grid; with the window of 2 transformers needs no help at the last stage
    wide, exact = (
        RecognizeAnything(RamConfig(window_size=window, **sizes)).eval() for window in (3, 2)
    )
    last = "visual_encoder.encoder.layers.1."
    wanted = {key: tuple(t.shape) for key, t in exact.state_dict().items() if last in key}
    assert {k: tuple(t.shape) for k, t in wide.state_dict().items() if last in k} == wanted
    state = {key: torch.randn(t.shape) for key, t in exact.state_dict().items() if last in key}
    hidden = torch.randn(1, 4, 16)
    outputs = []
    for model in (wide, exact):
        model.load_state_dict({**model.state_dict(), **state})
        outputs.append(model.visual_encoder.encoder.layers[1](hidden, (2, 2))[0])
        assert model(torch.randn(1, 3, 16, 16)).shape == (1, 2)
    torch.testing.assert_close(*outputs)


def test_another_image_size_is_refused():
    model = read_model("ram_tiny")
    side = model.config.image_size
    with pytest.raises(ValueError, match=rf"expected \(B, 3, {side}, {side}\)"):
        model(torch.zeros(1, 3, side // 2, side // 2))
