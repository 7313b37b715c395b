"""Original checkpoints of RAM and RAM++: sizes by the tensors, every key accounted for."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from pad_pipeline.errors import UserError
from pad_pipeline.models.ram.config import RamConfig
from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.models.ram.state_dict import (
    convert_ram_checkpoint,
    infer_ram_config,
)
from tests.golden_data import golden_dir
from tests.models.ram.golden import BOTH, read_config


@BOTH
@pytest.mark.parametrize("masks", ["with", "without"])
def test_sizes_come_from_the_tensors(name: str, masks: str):
    config = read_config(name)
    state = load_file(golden_dir(name) / "checkpoint.safetensors")
    if masks == "without":
        state = {key: tensor for key, tensor in state.items() if "attn_mask" not in key}
    assert infer_ram_config(state, config.tags, config.thresholds) == config
    assert set(infer_ram_config(state, config.tags).thresholds) == {0.68}


def test_image_size_comes_from_the_masks_where_the_last_stage_has_more_windows():
    config = read_config("ram_tiny")
    state = load_file(golden_dir("ram_tiny") / "checkpoint.safetensors")
    for key in [key for key in state if key.endswith("attn_mask")]:
        state[key] = state[key].repeat(4, 1, 1)  # twice as many windows along each side
    assert infer_ram_config(state, config.tags).image_size == 2 * config.image_size
    assert infer_ram_config(state, config.tags, image_size=384).image_size == 384


@pytest.mark.parametrize("name", ["ram_full_keys.json", "ram_plus_full_keys.json"])
def test_full_size_lists_are_covered(name: str):
    rows = json.loads(golden_dir(name).read_text())["keys"]
    state = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype, _ in rows
    }
    tags = [f"tag {number}" for number in range(4585)]
    config = infer_ram_config(state, tags)
    descriptions = 51 if "plus" in name else 0
    assert config == RamConfig(
        tags=tuple(tags), thresholds=(0.68,) * 4585, descriptions_per_class=descriptions
    )
    converted = convert_ram_checkpoint(state, config, source=name)
    with torch.device("meta"):
        model = RecognizeAnything(config)
    assert {key: (t.shape, t.dtype) for key, t in converted.items()} == {
        key: (t.shape, t.dtype) for key, t in model.state_dict().items()
    }


@BOTH
def test_keys_that_differ_are_named_as_the_file_has_them(name: str):
    config = read_config(name)
    state = load_file(golden_dir(name) / "checkpoint.safetensors")
    unused = ("tag_encoder.", "text_decoder.")
    stage, block = len(config.depths) - 1, config.depths[-1] - 1
    attention = f"visual_encoder.layers.{stage}.blocks.{block}.attn"
    # the last weight matrix of each part, and an attention whose three matrices are one key
    for key in (
        "image_proj.weight",
        "label_embed",
        f"tagging_head.encoder.layer.{config.num_hidden_layers - 1}.output.dense.weight",
        "visual_encoder.norm.weight",
        f"visual_encoder.layers.{stage - 1}.downsample.reduction.weight",
        f"{attention}.qkv.weight",
        f"{attention}.relative_position_bias_table",
    ):
        assert key in state
        assert not key.startswith(unused)
        others = {other: tensor for other, tensor in state.items() if other != key}
        wrong = {
            "missing": others,
            "unexpected": {**others, key + "_old": state[key]},
            "instead of": {**others, key: state[key][:-1]},
        }
        for what, changed in wrong.items():
            with pytest.raises(UserError) as caught:
                convert_ram_checkpoint(changed, config, source="some.pth")
            message = str(caught.value)
            assert "some.pth" in message
            assert what in message
            assert (key + "_old" if what == "unexpected" else key) in message


def test_no_key_is_ignored_that_is_not_on_the_list():
    config = read_config("ram_tiny")
    state = load_file(golden_dir("ram_tiny") / "checkpoint.safetensors")
    for extra in ("fc2.weight", "visual_encoder.head.weight", "tagging_head.embeddings.weight"):
        with pytest.raises(UserError, match=extra):
            convert_ram_checkpoint({**state, extra: torch.zeros(1)}, config, source="x")
