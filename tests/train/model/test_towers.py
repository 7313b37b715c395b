"""Towers of other families: their patches, their exports and what their patches cover."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoProcessor,
    Dinov2Config,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    SiglipConfig,
    SiglipModel,
    SiglipVisionConfig,
)

from pad_pipeline.errors import UserError
from pad_pipeline.geometry import center_crop
from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX
from pad_pipeline.train.model.export import export_run_model
from pad_pipeline.train.model.load import load_model, read_vision_config
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.towers import check_select_layer, tower_of
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.text.encode import encode_caption, load_tokenizer
from tests.train.model.test_export import our_logits, photo, their_ids
from tests.train.model.toy_llava import settings

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 60,  # 4 patches of 14, and 4 pixels that no patch covers
    "patch_size": 14,
}
CONFIGS: dict[str, Any] = {
    "siglip": SiglipVisionConfig(**SIZES, intermediate_size=48),
    "dinov2": Dinov2Config(**SIZES, mlp_ratio=2),
    "clip": settings()[0],
}


def model_of(kind: str, select_layer: int = -2) -> VisionLanguageModel:
    torch.manual_seed(1)
    config: Any = CONFIGS[kind]
    llm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=768,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
        )
    )
    projector = build_projector("mlp", vision_width=32, llm_width=64, grid=4)
    tower = tower_of(config).model_class(config)
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return VisionLanguageModel(tower, projector, llm, select_layer=select_layer).eval()


@pytest.mark.parametrize("kind", CONFIGS)
@pytest.mark.parametrize("select_layer", [-1, -2])
def test_patches_are_transformers_hidden_states(kind: str, select_layer: int) -> None:
    model = model_of(kind, select_layer)
    side = model.vision.config.image_size
    pixels = torch.randn(2, 3, side, side)
    with torch.no_grad():
        wanted = model.vision(pixels, output_hidden_states=True).hidden_states[select_layer]
    patches = model.encode(pixels)
    assert patches.shape == (2, 16, 32)
    torch.testing.assert_close(patches, wanted[:, wanted.shape[1] - 16 :], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["siglip", "dinov2"])
@pytest.mark.parametrize("select_layer", [-1, -2])
def test_transformers_computes_the_same_from_an_export(
    tmp_path: Path, kind: str, select_layer: int
) -> None:
    model, tokenizer = model_of(kind, select_layer), load_tokenizer(EMBEDDED_WEIGHTS / "language")
    tower = tower_of(model.vision.config)
    export_run_model(model, tokenizer, tmp_path / "out", image_mean=tower.mean, image_std=tower.std)
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    loaded = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    text = encode_caption(tokenizer, "a cup")
    inputs = processor(images=Image.fromarray(photo()), text="<image> a cup\n", return_tensors="pt")
    ids = their_ids(text.input_ids, loaded.config.image_token_id, 16)
    assert inputs["input_ids"].tolist() == ids.tolist()
    frame = center_crop(90, 61, 60).apply(photo())
    pixels = (torch.from_numpy(frame / 255.0) - torch.tensor(tower.mean)) / torch.tensor(tower.std)
    pixels = pixels.permute(2, 0, 1)[None].float()
    torch.testing.assert_close(inputs["pixel_values"], pixels, rtol=0, atol=1e-6)
    with torch.no_grad():
        logits = loaded(**inputs).logits[0, :, :768]
    assert IMAGE_TOKEN_INDEX in text.input_ids
    torch.testing.assert_close(logits, our_logits(model, text.input_ids, pixels), rtol=0, atol=1e-4)


def test_a_tower_is_found_inside_a_whole_siglip(tmp_path: Path) -> None:
    text = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "vocab_size": 50,
    }
    whole = SiglipModel(SiglipConfig(text_config=text, vision_config=CONFIGS["siglip"].to_dict()))
    whole.save_pretrained(tmp_path / "whole")
    config = read_vision_config(tmp_path / "whole")
    assert (config.model_type, config.image_size) == ("siglip_vision_model", 60)
    model = load_model(tmp_path / "whole", EMBEDDED_WEIGHTS / "language", select_layer=-1)
    ours, theirs = model.vision.state_dict(), whole.vision_model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())


def test_pixels_behind_the_last_patch_count_for_none() -> None:
    """A patch of 14 pixels is covered by what lies on its own pixels, in a frame of 60 too."""
    geometry = center_crop(60, 60, 60).first(56)
    mask = np.zeros((60, 60), bool)
    mask[14:28, 7:21] = True
    found = geometry.coverage(mask, 4).reshape(4, 4)
    wanted = np.zeros((4, 4))
    wanted[1, :2] = 0.5
    assert np.array_equal(found, wanted)
    assert (
        not center_crop(60, 60, 60).first(56).coverage(np.indices((60, 60)).max(0) >= 56, 4).any()
    )


def test_a_layer_that_the_tower_has_not_is_refused() -> None:
    check_select_layer(CONFIGS["siglip"], -3)
    with pytest.raises(UserError, match="is no layer of the vision tower, which has 3: -1 is the"):
        check_select_layer(CONFIGS["siglip"], -4)
