"""SAM's original key names against transformers', at full size."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

from pad_pipeline.models.sam import state_dict
from pad_pipeline.models.sam.load import build_sam
from tests.golden_data import golden_dir
from tests.models.sam.helpers import NOT_READ_BY_INFERENCE


@pytest.mark.parametrize(
    ("name", "width", "depth", "heads", "global_blocks"),
    [
        ("sam_vit_h", 1280, 32, 16, [7, 15, 23, 31]),
        ("sam_vit_l", 1024, 24, 16, [5, 11, 17, 23]),
        ("sam_vit_b", 768, 12, 12, [2, 5, 8, 11]),
    ],
)
def test_full_size_keys_fit_name_by_name(
    name: str, width: int, depth: int, heads: int, global_blocks: list[int]
) -> None:
    listing = json.loads(golden_dir(f"{name}_full_keys.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, shape, *_ in listing["keys"]}
    config = state_dict.infer_config(state, source=name)
    vision: Any = config.vision_config
    assert (vision.hidden_size, vision.num_hidden_layers) == (width, depth)
    assert (vision.num_attention_heads, vision.window_size) == (heads, 14)
    assert (vision.global_attn_indexes, vision.image_size) == (global_blocks, 1024)
    model = build_sam(config, state, source=name)  # strict, shapes included
    ours = state_dict.to_transformers(state)
    assert {key: tensor.shape for key, tensor in model.state_dict().items()} == {
        key: tensor.shape for key, tensor in ours.items()
    }
    assert len(ours) == len(state) + 1  # the position table has two names in transformers
    matched = [
        key for key in state if any(re.fullmatch(pattern, key) for pattern in NOT_READ_BY_INFERENCE)
    ]
    assert sorted(matched) == sorted(listing["not_used_with_box_prompts_and_single_mask"])
