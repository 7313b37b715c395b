"""Pipeline directories as diffusers and PixArt write them; and those that are wrong."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, DPMSolverMultistepScheduler, Transformer2DModel
from safetensors.torch import load_file, save_file

from pad_pipeline.errors import UserError
from pad_pipeline.train.vlsa.denoiser_files import load_denoiser
from tests.train.vlsa.toy_denoiser import AUTOENCODER, TRANSFORMER, write_denoiser

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_denoiser(tmp_path_factory.mktemp("denoiser"))


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "pixart"))


@pytest.mark.parametrize("options", [{"safe_serialization": False}, {"max_shard_size": "40KB"}])
def test_other_files_of_weights_give_the_same_model(
    folder: Path, options: dict[str, Any], capfd
) -> None:
    expected = load_denoiser(folder)
    parts = {"transformer": expected.transformer, "vae": expected.autoencoder}
    for name, part in parts.items():
        shutil.rmtree(folder / name)
        part.save_pretrained(folder / name, **options)
        assert not (folder / name / WEIGHTS).exists() or name == "vae"
    capfd.readouterr()
    found = load_denoiser(folder)
    assert capfd.readouterr().err == ""
    for name, weight in expected.state_dict().items():
        assert torch.equal(weight, found.state_dict()[name]), name


def test_older_names_are_read(folder: Path) -> None:
    """Of the transformer's class and of the autoencoder's attention; and a solver as scheduler."""
    torch.manual_seed(1)
    shutil.rmtree(folder / "transformer")
    older = {key: value for key, value in TRANSFORMER.items() if key != "use_additional_conditions"}
    transformer = Transformer2DModel(**older, num_embeds_ada_norm=1000, attention_bias=True)
    transformer.save_pretrained(folder / "transformer")
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert config["_class_name"] == "Transformer2DModel"
    DPMSolverMultistepScheduler(beta_schedule="linear").save_pretrained(folder / "scheduler")
    autoencoder = AutoencoderKL(**{**AUTOENCODER, "mid_block_add_attention": True})
    autoencoder.save_pretrained(folder / "vae")
    state = load_file(folder / "vae" / WEIGHTS)
    renamed = {_older_name(name): weight for name, weight in state.items()}
    assert "encoder.mid_block.attentions.0.query.weight" in renamed
    save_file(renamed, folder / "vae" / WEIGHTS)
    found = load_denoiser(folder)
    for name, weight in transformer.state_dict().items():
        assert torch.equal(weight, found.transformer.state_dict()[name]), name
    for name, weight in state.items():
        assert torch.equal(weight, found.autoencoder.state_dict()[name]), name
    assert found.noise.config["prediction_type"] == "epsilon"
    assert found.noise.config["beta_schedule"] == "linear"


def _older_name(name: str) -> str:
    if "mid_block.attentions" in name:
        older = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
        for new, old in older.items():
            name = name.replace(new, old)
    return name


def weights(part: str, change: Callable[[dict[str, torch.Tensor]], object]):
    """A change of a part's weights."""

    def apply(folder: Path) -> None:
        state = load_file(folder / part / WEIGHTS)
        change(state)
        save_file(state, folder / part / WEIGHTS)

    return apply


def config(part: str, **values: object):
    """A change of a part's config; None takes a value out."""

    def apply(folder: Path) -> None:
        name = "scheduler_config.json" if part == "scheduler" else "config.json"
        found = {**json.loads((folder / part / name).read_text()), **values}
        kept = {key: value for key, value in found.items() if value is not None}
        (folder / part / name).write_text(json.dumps(kept))

    return apply


class Malicious:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def pickled_code(folder: Path) -> None:
    (folder / "transformer" / WEIGHTS).unlink()
    torch.save({"x": Malicious()}, folder / "transformer" / "diffusion_pytorch_model.bin")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (weights("transformer", lambda s: s.pop("proj_out.weight")), "1 missing (proj_out.weight)"),
        (weights("vae", lambda s: s.update(extra=torch.zeros(2))), "1 unexpected (extra)"),
        (
            weights("vae", lambda s: s.update({"quant_conv.bias": torch.zeros(3)})),
            "1 of another shape (quant_conv.bias)",
        ),
        (config("transformer", caption_channels=48), "of another shape (caption_projection."),
        (config("transformer", num_layers="two"), "the transformer of the denoiser"),
        (config("transformer", _class_name="DiTTransformer2DModel"), "it is a DiTTransformer2DM"),
        (config("scheduler", beta_schedule=None), "DDPMScheduler has no beta_schedule"),
        (lambda folder: shutil.rmtree(folder / "vae"), "the vae of the denoiser"),
        (lambda folder: (folder / "vae" / WEIGHTS).write_bytes(b"x" * 50), "Unable to load"),
        (lambda folder: (folder / "vae" / "config.json").write_text("{"), "not a valid JSON"),
        (pickled_code, "Unable to load weights"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    folder: Path, change: Callable[[Path], object], sentence: str, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    change(folder)
    with pytest.raises(UserError) as caught:
        load_denoiser(folder)
    text = str(caught.value)
    assert sentence in text
    assert "\n" not in text
    assert text.endswith("must be downloaded first where there is no network")
    assert not Path("ran").exists()


def test_what_is_no_directory_is_one_sentence(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"config\.json is a file; expected the directory of a Pix"):
        load_denoiser(original / "vae" / "config.json")
    with pytest.raises(UserError, match="there is no model"):
        load_denoiser(tmp_path / "nothing")
    assert pickle.dumps(Malicious())  # it would run where it was unpickled
