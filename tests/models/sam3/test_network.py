"""SAM 3 with shared features gives transformers' numbers, prompt by prompt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.sam3.detector import Sam3Detector
from pad_pipeline.models.sam3.network import draw, find
from tests.models.sam3 import tiny

TOLERANCE = 1e-4
WORDS = ["dog", "a red car", "sky"]


def images() -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, size, np.uint8) for size in ((40, 60, 3), (70, 50, 3))]


@pytest.mark.parametrize("kind", ["sam3", "sam3_lite_text"])
@torch.inference_mode()
def test_each_pair_of_a_batch_is_as_transformers_has_it(kind: tiny.Kind) -> None:
    model = tiny.random_model(kind)
    tokenizer = tiny.tokenizer()
    detector = Sam3Detector(model, tokenizer, Runtime())
    features = detector.embed(images())
    pairs = [(row, word) for row in range(2) for word in WORDS]
    rows = torch.tensor([row for row, _ in pairs])
    prompts = detector.words.encode([word for _, word in pairs])
    found = find(model, features, rows, prompts)
    masks = draw(model, features, rows, prompts, found.encoded_RSC, found.queries_RQC)
    spread = 0.0
    for number, (row, word) in enumerate(pairs):
        text = tokenizer(word, return_tensors="pt", padding="max_length", max_length=32)
        expected = model(pixel_values=detector.pixels(images()[row])[None], **text)
        for ours, theirs in (
            (found.logits_RQ[number], expected.pred_logits[0]),
            (found.presence_R[number], expected.presence_logits[0, 0]),
            (found.boxes_RQ4[number], expected.pred_boxes[0]),
            (masks[number], expected.pred_masks[0]),
        ):
            torch.testing.assert_close(ours, theirs, atol=TOLERANCE, rtol=0)
        spread = max(spread, float((found.logits_RQ[number] - found.logits_RQ[0]).abs().max()))
    assert spread > 100 * TOLERANCE  # else any prompt's numbers would pass for any other's
    assert float(masks.std()) > 100 * TOLERANCE
