"""The shipped weights: small enough, and loaded as released ones are."""

from __future__ import annotations

import numpy as np
import torch
from transformers import AutoTokenizer, GroundingDinoForObjectDetection

from pad_pipeline.models.grounding_dino.load import load_grounding_dino
from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.scenes.generator import KINDS, generate_scene
from tools.annotators.data import EVALUATION_SEED, Sample
from tools.annotators.detector_data import make_batch


def test_all_weights_together_are_small() -> None:
    sizes = [file.stat().st_size for file in EMBEDDED_WEIGHTS.rglob("*") if file.is_file()]
    assert sum(sizes) < 17e6


def test_the_detector_is_transformers_own_model_with_the_training_input() -> None:
    """The same image and prompt through transformers alone: training and use see the same."""
    scene = generate_scene(EVALUATION_SEED + 100)
    detector = load_grounding_dino(EMBEDDED_WEIGHTS / "detector", box_threshold=0.2)
    [found] = detector.detect([scene.image], [scene.tags])
    kinds = np.array([KINDS.index(thing.kind) for thing in scene.things])
    boxes = np.array([thing.bbox_xyxy for thing in scene.things], np.float32)
    sample = Sample(scene.image, np.zeros(scene.image.shape[:2], np.uint8), boxes, kinds)
    inputs, _ = make_batch([sample], [[KINDS.index(tag) for tag in scene.tags]])
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_WEIGHTS / "detector")
    text = " . ".join(scene.tags) + " ."
    assert tokenizer(text)["input_ids"] == inputs["input_ids"][0].tolist()
    model = GroundingDinoForObjectDetection.from_pretrained(
        EMBEDDED_WEIGHTS / "detector", dtype=torch.float32
    ).eval()
    with torch.inference_mode():
        expected = model(**inputs).pred_boxes[0].numpy()
    height, width = scene.image.shape[:2]
    corners = np.concatenate(
        [expected[:, :2] - expected[:, 2:] / 2, expected[:, :2] + expected[:, 2:] / 2], axis=1
    ) * [width, height, width, height]
    assert len(found.xyxy) >= len(scene.things)
    for box in found.xyxy:
        assert np.abs(corners - box).max(1).min() < 0.05


def test_words_that_it_never_saw_are_read_in_letters() -> None:
    tokenizer = AutoTokenizer.from_pretrained(EMBEDDED_WEIGHTS / "detector")
    assert tokenizer.tokenize("Zebra, 42.") == [
        "z",
        "##e",
        "##b",
        "##r",
        "##a",
        ",",
        "4",
        "##2",
        ".",
    ]
    assert tokenizer.tokenize("traffic light") == ["traffic", "light"]
