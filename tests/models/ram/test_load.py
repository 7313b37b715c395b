"""RAM and RAM++ from original files and from directories of our own."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.ram.load import load_ram, save_ram
from pad_pipeline.models.ram.state_dict import (
    load_ram_checkpoint,
)
from tests.golden_data import golden_dir
from tests.models.ram.golden import BOTH, read_config, read_model, read_pixels


@pytest.fixture
def original(tmp_path):
    """A function that writes a golden checkpoint as the original project does, and its tags."""

    def write(name: str, **changes: Tensor):
        state = load_file(golden_dir(name) / "checkpoint.safetensors")
        path = tmp_path / f"{name}.pth"
        torch.save({"model": {**state, **changes}, "epoch": 3}, path)
        return path, read_config(name)

    return write


@BOTH
@torch.no_grad()
def test_original_file_to_directory_and_back(name: str, original, tmp_path):
    path, config = original(name)
    model = load_ram_checkpoint(path, config.tags, config.thresholds)
    expected = load_file(golden_dir(name) / "expected.safetensors")["logits"]
    torch.testing.assert_close(model(read_pixels(name)), expected, atol=1e-4, rtol=0)
    save_ram(model, tmp_path / "converted")
    saved = json.loads((tmp_path / "converted" / "config.json").read_text())
    assert saved["model_type"] == {"ram_tiny": "ram", "ram_plus_tiny": "ram-plus"}[name]
    path.unlink()
    tagger = load_ram(tmp_path / "converted")
    assert tagger.model.config == config
    logits = tagger.model(read_pixels(name))
    torch.testing.assert_close(logits, model(read_pixels(name)), atol=1e-5, rtol=0)
    loaded, original_state = tagger.model.state_dict(), model.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in original_state.items())


def test_wrong_original_files_are_told_apart(original, tmp_path):
    path, config = original("ram_plus_tiny")
    with pytest.raises(UserError, match=r"of ram-plus, not of ram"):
        load_ram_checkpoint(path, config.tags, model_type="ram")
    count = len(config.tags)
    with pytest.raises(UserError, match=rf"list of {count} tags; the one given has {count - 1}"):
        load_ram_checkpoint(path, config.tags[:-1])
    with pytest.raises(UserError, match=rf"{count + 1} thresholds for {count} tags"):
        load_ram_checkpoint(path, config.tags, [0.5] * (count + 1))
    with pytest.raises(UserError, match=rf"0 thresholds for {count} tags"):
        load_ram_checkpoint(path, config.tags, [])
    other = tmp_path / "sam_vit_b.pth"
    torch.save({"image_encoder.pos_embed": torch.zeros(1)}, other)
    with pytest.raises(UserError, match=r"sam_vit_b.*visual_encoder.*image_encoder\.pos_embed"):
        load_ram_checkpoint(other, config.tags)


def test_directories_that_are_none_are_refused(tmp_path):
    model, directory = read_model("ram_tiny"), tmp_path / "model"
    sizes = model.config
    odd, narrow = sizes.hidden_size + 1, sizes.intermediate_size // 2
    assert odd % sizes.num_attention_heads
    with pytest.raises(UserError, match=r"config\.json"):
        load_ram(directory)
    save_ram(model, directory)
    content = json.loads((directory / "config.json").read_text())
    for changes, message in (
        ({"model_type": "sam"}, "'sam'"),
        ({"model_type": "ram-plus"}, "descriptions_per_class 0"),
        ({"colour": 1}, "colour"),
        ({"thresholds": [0.5]}, f"1 thresholds for {len(sizes.tags)} tags"),
        ({"hidden_size": odd}, f"hidden_size {odd}"),
        (
            {"intermediate_size": narrow},
            rf"tagging_head\.0\.intermediate\.bias is \({sizes.intermediate_size},\) instead of",
        ),
    ):
        (directory / "config.json").write_text(json.dumps({**content, **changes}))
        with pytest.raises(UserError, match=message):
            load_ram(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        load_ram(directory)
    (directory / "config.json").write_text(json.dumps(content))
    (directory / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_ram(directory)
