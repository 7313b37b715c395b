"""Swin key names against the full-size key lists of the originals and transformers' own."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import SwinBackbone, SwinConfig, SwinModel

from pad_pipeline.errors import UserError
from pad_pipeline.models.swin import convert_swin, original_key
from tests.golden_data import golden_dir


def read_swin(name: str, prefix: str) -> dict[str, torch.Tensor]:
    """The image encoder of a full-size key list, without its prefix, on the meta device."""
    keys = json.loads(golden_dir(name).read_text())["keys"]
    return {
        key.removeprefix(prefix): torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype, _ in keys
        if key.startswith(prefix)
    }


SIZES = {
    "ram_full_keys.json": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48]},
    "gdino_swint_full_keys.json": {
        "embed_dim": 96,
        "depths": [2, 2, 6, 2],
        "num_heads": [3, 6, 12, 24],
    },
    "gdino_swinb_full_keys.json": {
        "embed_dim": 128,
        "depths": [2, 2, 18, 2],
        "num_heads": [4, 8, 16, 32],
    },
}


@pytest.mark.parametrize("name", list(SIZES))
def test_full_size_lists_are_covered(name: str):
    is_tagger = name.startswith("ram")
    state = read_swin(name, "visual_encoder." if is_tagger else "backbone.0.")
    converted = convert_swin(state)
    window = 7 if name == "gdino_swint_full_keys.json" else 12
    config = SwinConfig(image_size=384, window_size=window, out_indices=[2, 3, 4], **SIZES[name])
    with torch.device("meta"):
        model = SwinModel(config) if is_tagger else SwinBackbone(config)
    wanted = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    if not is_tagger:
        # the backbone norms its outputs instead, and never uses this one
        del wanted["swin.layernorm.weight"], wanted["swin.layernorm.bias"]
        converted = {
            name if name.startswith("hidden_states_norms.") else f"swin.{name}": tensor
            for name, tensor in converted.items()
        }
    assert {name: tuple(tensor.shape) for name, tensor in converted.items()} == wanted
    buffers = {key for key in state if key.endswith(("relative_position_index", "attn_mask"))}
    renamed_back = {original_key(name.removeprefix("swin.")) for name in converted}
    assert renamed_back == set(state) - buffers


def test_unknown_keys_are_named():
    norm = torch.zeros(4)
    for wrong in ("layers.0.blocks.0.norm3.weight", "head.weight", "patch_embed.proj.scale"):
        with pytest.raises(UserError, match=wrong.replace(".", r"\.")):
            convert_swin({"norm.weight": norm, wrong: norm})
