"""Grounding DINO loads from every layout, and refuses what does not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    BertTokenizer,
    MMGroundingDinoConfig,
    MMGroundingDinoForObjectDetection,
)

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import detect_pairs
from pad_pipeline.models.grounding_dino.load import (
    load_grounding_dino,
    load_tokenizer,
    save_grounding_dino,
)
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.preprocessing import Preprocessing
from pad_pipeline.models.grounding_dino.state_dict import (
    config_from_golden,
)
from tests.golden_data import golden_dir
from tests.models.grounding_dino.golden import SMALL, TOLERANCE, Golden


@pytest.fixture(scope="module")
def tiny() -> Golden:
    return Golden("gdino_tiny")


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    image = Image.open(golden_dir("pipeline_e2e") / "image.png").convert("RGB")
    return np.asarray(image)


def mm_grounding_dino(tiny: Golden, num_levels: int = 4) -> Any:
    """With heads that differ, which a new model's do not, and five levels as the large ones."""
    sizes = config_from_golden(tiny.config).to_dict()
    sizes = {
        key: value for key, value in sizes.items() if key not in ("model_type", "architectures")
    }
    del sizes["two_stage_bbox_embed_share"]
    sizes |= {"decoder_bbox_embed_share": False, "num_feature_levels": num_levels}
    if num_levels == 5:
        stages = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}
        sizes["backbone_config"] = {**sizes["backbone_config"], **stages, "out_indices": None}
    torch.manual_seed(0)
    model: Any = MMGroundingDinoForObjectDetection(MMGroundingDinoConfig(**sizes)).eval()
    with torch.no_grad():
        for head in model.class_embed:
            head.bias.fill_(0.3)
        for number, head in enumerate(model.bbox_embed):
            head.layers[-1].weight.normal_(std=0.05 * (number + 1))
    return model


def same_as_transformers(loaded: GroundingDinoDetector, model: Any, photo: np.ndarray) -> None:
    assert isinstance(loaded.model, MMGroundingDinoForObjectDetection)
    pixels = loaded.pixels([photo, photo])
    captions = ["dog. red car.", "cat. tree. sky. dog."]
    prompts = loaded.tokenizer(captions, padding=True, return_tensors="pt")
    with torch.inference_mode():
        images = encode_images(loaded.network, pixels)
        texts = encode_texts(loaded.network, loaded.tokenizer(captions)["input_ids"])
        logits, boxes = detect_pairs(loaded.network, images, texts)
        expected = model(
            pixel_values=pixels,
            input_ids=prompts["input_ids"],
            attention_mask=prompts["attention_mask"],
        )
    wanted = expected.logits[..., : logits.shape[-1]]
    finite = torch.isfinite(wanted)
    assert torch.equal(torch.isfinite(logits), finite)
    assert (logits - wanted)[finite].abs().max() < TOLERANCE
    assert (boxes - expected.pred_boxes).abs().max() < TOLERANCE
    [found] = loaded.detect([photo], [["dog", "red car"]])
    assert set(found.labels) <= {"dog", "red car"}


def save(model: Any, tiny: Golden, folder: Path) -> None:
    detector = GroundingDinoDetector(model, tiny.tokenizer, Runtime(), preprocessing=SMALL)
    save_grounding_dino(detector, folder)


def test_mm_grounding_dino_gives_transformers_numbers(tiny, photo, tmp_path):
    model = mm_grounding_dino(tiny)
    save(model, tiny, tmp_path)
    same_as_transformers(load_grounding_dino(tmp_path, box_threshold=0.0), model, photo)


@pytest.mark.parametrize(
    ("num_levels", "heads"), [(4, "both"), (4, "bbox_embed"), (5, "model.decoder.bbox_embed")]
)
def test_llmdet_gives_transformers_numbers(tiny, photo, tmp_path, num_levels, heads):
    """Its released directories: of transformers 4.55, converted from mmdetection's heads.

    The decoder's heads are there once or twice, with what the sizes give beside them.
    """
    model = mm_grounding_dino(tiny, num_levels)
    save(model, tiny, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    for kind in ("bbox_embed", "class_embed"):
        for key in [key for key in state if key.startswith(("model.decoder." + kind, kind))]:
            plain = key.removeprefix("model.decoder.")
            value = state.pop(key)
            if heads != "model.decoder.bbox_embed":
                state[plain] = value
            if heads != "bbox_embed":
                state["model.decoder." + plain] = value.clone()
    for name, block in model.model.backbone.named_modules():
        if hasattr(block, "relative_position_index"):
            state[f"model.backbone.{name}.relative_position_index"] = (
                block.relative_position_index.clone()
            )
    state["model.text_backbone.embeddings.position_ids"] = torch.arange(512)[None]
    save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})
    same_as_transformers(load_grounding_dino(tmp_path, box_threshold=0.0), model, photo)


def test_a_converted_directory_is_whole_and_gives_the_same(tiny, photo, tmp_path):
    detector = tiny.detector()
    save_grounding_dino(detector, tmp_path)
    loaded = load_grounding_dino(tmp_path, box_threshold=0.15)
    assert loaded.preprocessing == SMALL
    assert isinstance(loaded.tokenizer, BertTokenizer)
    [found], [wanted] = (each.detect([photo], [["dog", "sky"]]) for each in (loaded, detector))
    np.testing.assert_array_equal(found.xyxy, wanted.xyxy)
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_an_original_file_is_loaded_by_its_shapes(tiny, tmp_path):
    """The sizes come from shapes alone, which do not show the number of BERT's heads."""
    path = tmp_path / "groundingdino_toy.pth"
    torch.save({"model": tiny.state}, path)
    detector = load_grounding_dino(path, tokenizer=tiny.vocabulary)
    assert detector.preprocessing == Preprocessing()
    weights = detector.model.state_dict()
    expected = tiny.model().state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("missing", r"1 missing \(model\.enc_output\.weight\)"),
        ("unexpected", r"1 unexpected \(transformer\.foo\.weight\)"),
        ("reshaped", r"model\.enc_output\.weight is \(2, 2\) instead of \((\d+), \1\)"),
        ("untied", "box heads differ between layers"),
        ("sizeless", r"bert\.embeddings\.word_embeddings\.weight is missing"),
        ("sam", "is not a Grounding DINO checkpoint"),
    ],
)
def test_an_original_file_that_does_not_fit_is_refused(tiny, tmp_path, change, message):
    state = dict(tiny.state)
    key = "module.transformer.enc_output.weight"
    if change == "missing":
        del state[key]
    elif change == "unexpected":
        state["module.transformer.foo.weight"] = torch.zeros(1)
    elif change == "reshaped":
        state[key] = torch.zeros(2, 2)
    elif change == "untied":
        state["module.bbox_embed.1.layers.0.bias"] = torch.zeros(tiny.config["hidden_dim"])
    elif change == "sizeless":
        del state["module.bert.embeddings.word_embeddings.weight"]
    else:
        state = {"image_encoder.pos_embed": torch.zeros(1)}
    path = tmp_path / "groundingdino_toy.pth"
    torch.save({"model": state}, path)
    with pytest.raises(UserError, match=message):
        load_grounding_dino(path, tokenizer=tiny.vocabulary)


@pytest.mark.parametrize("change", ["missing", "unexpected", "of another shape"])
def test_a_directory_that_does_not_fit_is_refused(tiny, tmp_path, change):
    save_grounding_dino(tiny.detector(), tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    if change == "missing":
        del weights["model.enc_output.weight"]
    elif change == "unexpected":
        weights["model.foo.weight"] = torch.zeros(1)
    else:
        weights["model.enc_output.weight"] = torch.zeros(2, 2)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=rf"1 {change} \(model\.(enc_output|foo)\.weight\)"):
        load_grounding_dino(tmp_path)


def test_a_directory_of_another_kind_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        load_grounding_dino(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    with pytest.raises(UserError, match="'sam' model; expected one of grounding-dino"):
        load_grounding_dino(tmp_path)


def test_what_is_not_there_is_named(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no file or directory"):
        load_grounding_dino(tmp_path / "nothing.pth")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="where there is no network, download the model first"):
        load_grounding_dino("nobody/no-such-detector")
    with pytest.raises(UserError, match=r"\(tokenizer\)"):
        load_tokenizer("nobody/no-such-tokenizer")


def test_a_tokenizer_of_another_vocabulary_is_refused(tiny, tmp_path):
    words = tiny.vocabulary.read_text().splitlines()
    swapped = tmp_path / "vocab.txt"
    swapped.write_text("\n".join([words[1012], *words[1:1012], words[0], *words[1013:]]) + "\n")
    with pytest.raises(UserError, match=r"'\.' is 0, not 1012"):
        load_grounding_dino(tiny.checkpoint, tokenizer=swapped)
    longer = tmp_path / "longer" / "vocab.txt"
    longer.parent.mkdir()
    longer.write_text("\n".join([*words, "onemoreword"]) + "\n")
    with pytest.raises(
        UserError, match=f"{len(words) + 1} tokens but the model knows {len(words)}"
    ):
        load_grounding_dino(tiny.checkpoint, tokenizer=longer)
