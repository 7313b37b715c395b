"""OWLv2 gives what transformers' processor and model give, and enters the chain as a detector."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Owlv2Processor

from pad_pipeline.annotate.annotator import Annotator
from pad_pipeline.engine.config import demo
from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.owlv2.detector import PROMPT, Owlv2Detector
from pad_pipeline.models.owlv2.load import load_owlv2
from pad_pipeline.models.owlv2.preprocessing import Preprocessing, prepare_image
from pad_pipeline.models.registry import load_detector
from tests.models.owlv2 import tiny

TAGS = ["dog", "red car", "sky"]
SIZES = [(48, 48), (30, 47), (91, 33), (200, 150), (5, 7), (2, 60)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_model(tmp_path_factory.mktemp("owlv2"))


def image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(height * 1000 + width)
    return rng.integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_transformers_processor(size: tuple[int, int]) -> None:
    picture = image(*size)
    expected = tiny.processor()(picture, return_tensors="np")["pixel_values"][0]
    found = prepare_image(picture, Preprocessing(tiny.SIDE), "cpu")
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("size", SIZES[:4])
def test_boxes_and_scores_are_those_of_transformers(folder: Path, size: tuple[int, int]) -> None:
    picture, model = image(*size), tiny.random_model()
    processor: Any = Owlv2Processor(tiny.processor(), tiny.tokenizer())
    text = [PROMPT.format(tag) for tag in TAGS]
    inputs = processor(
        text=[text], images=picture, return_tensors="pt", max_length=40, padding="max_length"
    )
    with torch.inference_mode():
        output = model(**inputs)
    detector = load_owlv2(folder, Runtime(), box_threshold=0.0)
    with torch.inference_mode():
        features = detector.embed([picture])
        logits, _ = detector.model.class_head(features[0], detector.embed_tags(TAGS), None)
    torch.testing.assert_close(logits, output.logits[0], atol=1e-4, rtol=0)
    assert output.logits.std() > 0.1
    [wanted] = processor.post_process_grounded_object_detection(
        output, threshold=0.0, target_sizes=[size], text_labels=[TAGS]
    )
    [found] = detector.detect([picture], [TAGS])
    boxes = wanted["boxes"].numpy()
    touching = (boxes[:, 0] < size[1]) & (boxes[:, 1] < size[0])
    np.testing.assert_allclose(found.xyxy, boxes[touching], atol=1e-2 * max(size) / tiny.SIDE)
    np.testing.assert_allclose(found.xyxy / max(size), boxes[touching] / max(size), atol=1e-4)
    np.testing.assert_allclose(found.scores, wanted["scores"].numpy()[touching], atol=1e-4)
    names = np.array(wanted["text_labels"])[touching]
    assert list(found.labels) == names.tolist()
    assert len(set(found.labels)) > 1


def test_images_together_are_as_one_at_a_time(folder: Path) -> None:
    pictures = [image(*size) for size in SIZES[:3]]
    tags = [TAGS, [], ["sky", "dog", "sky"]]
    together = load_owlv2(folder, Runtime(), box_threshold=0.2).detect(pictures, tags)
    alone = load_owlv2(folder, Runtime(), box_threshold=0.2)
    for found, picture, words in zip(together, pictures, tags, strict=True):
        [one] = alone.detect([picture], [words])
        np.testing.assert_allclose(found.xyxy, one.xyxy, atol=1e-4)
        assert found.labels == one.labels
    assert len(together[1].labels) == 0
    assert len(together[0].labels) > 0


def test_features_are_computed_once_and_a_tag_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = load_owlv2(folder, Runtime())
    asked: list[str] = []
    make = Owlv2Detector._embed_texts

    def counted(self: Owlv2Detector, tags: list[str]) -> list[torch.Tensor]:
        asked.extend(tags)
        return make(self, tags)

    monkeypatch.setattr(Owlv2Detector, "_embed_texts", counted)
    passes = []
    detector.model.owlv2.vision_model.register_forward_hook(lambda *_: passes.append(1))
    pictures = [image(40, 40), image(20, 30)]
    detector.detect(pictures, [["dog", "cat"], ["cat"]])
    detector.detect(pictures, [["cat"], ["dog", "bird"]])
    assert asked == ["dog", "cat", "bird"]
    assert len(passes) == 2


def test_a_tag_that_is_cut_is_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    detector = load_owlv2(folder, Runtime())
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            detector.detect([image(9, 9)], [["a" * 50, "dog"]])
    assert caplog.text.count("is longer than the 40 tokens that OWLv2 reads") == 1


def test_half_precision_keeps_heads_and_text(folder: Path) -> None:
    detector = load_owlv2(folder, Runtime(dtype="bfloat16"), box_threshold=0.0)
    whole = load_owlv2(folder, Runtime(), box_threshold=0.0)
    [found], [exact] = (one.detect([image(40, 48)], [TAGS]) for one in (detector, whole))
    assert detector.model.box_head.dense0.weight.dtype == torch.float32
    assert detector.model.owlv2.vision_model.encoder.layers[0].mlp.fc1.weight.dtype == (
        torch.bfloat16
    )
    assert np.abs(found.scores - exact.scores).max() < 0.1


def test_what_does_not_fit_is_refused(folder: Path, tmp_path: Path) -> None:
    for option, value in (("label_mode", "phrase"), ("pad_to", "canvases")):
        with pytest.raises(UserError, match=f"{option}='{value}' is for Grounding DINO"):
            load_detector(folder, Runtime(), **{option: value})
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings["size"] = {"height": 32, "width": 32}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="the model reads squares of 48 pixels"):
        load_detector(tmp_path, Runtime())
    (tmp_path / "preprocessor_config.json").unlink()
    load_detector(tmp_path, Runtime())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).unlink()
    with pytest.raises(UserError, match=r"no tokenizer of the model at .* tokens and the model"):
        load_detector(tmp_path, Runtime())


def test_it_annotates(folder: Path) -> None:
    config = demo()
    config = replace(
        config,
        classes="dog, red car",
        detect=replace(config.detect, model=str(folder), box_threshold=0.55),
    )
    annotator = Annotator(config)
    pictures = [image(64, 96), image(80, 50)]
    records = annotator.annotate(pictures)
    regions = [region for record in records for region in record.labels]
    assert [record.status for record in records] == ["ok", "ok"]
    assert {region.tag for region in regions} == {"dog", "red car"}
    assert records == Annotator(config).annotate(pictures)
