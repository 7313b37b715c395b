"""Grounding DINO's original key names and sizes against transformers'."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from transformers import (
    GroundingDinoForObjectDetection,
)

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import load_strictly
from pad_pipeline.models.grounding_dino.state_dict import (
    config_from_golden,
    convert_grounding_dino,
    infer_config,
)
from tests.golden_data import golden_dir
from tests.models.grounding_dino.golden import Golden


@pytest.fixture(scope="module")
def tiny() -> Golden:
    return Golden("gdino_tiny")


def test_config_from_shapes_is_the_golden_config(tiny):
    from_shapes = infer_config(tiny.state, source="golden").to_dict()
    given = config_from_golden(tiny.config).to_dict()
    # the weights do not show into how many heads BERT divides them
    del (
        from_shapes["text_config"]["num_attention_heads"],
        given["text_config"]["num_attention_heads"],
    )
    assert from_shapes == given


def test_golden_config_with_other_options_is_refused(tiny):
    with pytest.raises(UserError, match="two_stage 'no'"):
        config_from_golden(tiny.config | {"two_stage": "no"})


@pytest.mark.parametrize("name", ["swint", "swinb"])
def test_full_size_key_lists(name):
    listed = json.loads(golden_dir(f"gdino_{name}_full_keys.json").read_text())
    state = {
        f"module.{key}": torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype, _ in listed["keys"]
    }
    for key in listed["in_released_files_but_not_in_the_model"]:
        state[f"module.{key}"] = torch.empty((1, 1), device="meta")
    config = infer_config(state, source=name)
    with torch.device("meta"):
        model = GroundingDinoForObjectDetection(config)
    converted = convert_grounding_dino(state)
    load_strictly(model, converted, source=name)
    # nothing is lost: what is converted has as many numbers as the keys that inference reads
    unused = set(listed["not_used_by_inference"])
    kept = sum(int(np.prod(shape)) for key, shape, _, _ in listed["keys"] if key not in unused)
    invented = 2 * model.model.backbone.conv_encoder.model.swin.num_features
    assert sum(tensor.numel() for tensor in converted.values()) == kept + invented
