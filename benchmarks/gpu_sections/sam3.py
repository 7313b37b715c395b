"""The preset sam3 as a worker runs it, and SAM 3 alone by the number of tags."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from gpu_sections import chain, weights, workload
from gpu_sections.bench import Bench, Row, Rows
from gpu_sections.chain import Case
from pad_pipeline.boxes import nms
from pad_pipeline.engine.config import sam3
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Boxes
from pad_pipeline.models.sam3.detector import Sam3Detector
from pad_pipeline.models.sam3.load import load_sam3

CASES = (
    Case("uniform", preset="sam3", num_tags=10),
    Case("web", preset="sam3"),
)

TAGS = (1, 10, 20)


def rows(bench: Bench) -> Rows:
    """The bar first."""
    for case in CASES:
        yield case.name, partial(chain.measure, bench, case)
    for number in TAGS:
        yield f"SAM 3, tags: {number}", partial(alone, bench, number)
    yield "transformers, one prompt at a time, tags: 10", partial(transformers_way, bench, 10)


def alone(bench: Bench, number: int) -> Row:
    """Images per second of the model, masks of what suppression leaves included."""
    detector, images, tags = prepare(bench, number)
    kept: list[int] = []

    def choose(index: int, boxes: Boxes) -> Sequence[int]:
        chosen = nms(boxes.xyxy, boxes.scores, 0.5)
        kept.append(len(chosen))
        return chosen.tolist()

    row = bench.rate(lambda: detector.detect_masks(images, tags, choose), len(images))
    return row | {
        "batch_size": len(images),
        "boxes_per_image": round(float(np.mean(kept)), 2),
        "words_encoded": detector.words.num_encoded,
    }


@torch.inference_mode()
def transformers_way(bench: Bench, number: int) -> Row:
    """Every prompt of an image a pass of the whole `Sam3Model`, in one dtype, images in a batch."""
    detector, images, tags = prepare(bench, number)
    model: Any = detector.model.to(bench.torch_dtype)
    pixels = torch.stack([detector.pixels(image) for image in images]).to(bench.torch_dtype)
    tokenizer = detector.words.tokenizer
    prompts = [
        tokenizer(list(words), return_tensors="pt", padding="max_length", max_length=32).to(
            bench.device
        )
        for words in zip(*tags, strict=True)
    ]

    def step() -> None:
        for prompt in prompts:
            model(pixel_values=pixels, **prompt).pred_masks.sum().item()

    return bench.rate(step, len(images)) | {"batch_size": len(images)}


def prepare(bench: Bench, number: int) -> tuple[Sam3Detector, list[np.ndarray], list[list[str]]]:
    """The detector at the preset's batch size, a batch of images, and tags for each."""
    batch_size = 2 if bench.tiny else sam3().detect.batch_size
    runtime = Runtime(bench.device, bench.dtype)
    place = weights.path_of(bench, "detector-sam3")
    detector = load_sam3(place, runtime, box_threshold=0.5, max_pairs=batch_size)
    images = workload.pixels("uniform", batch_size, bench.tiny)
    return detector, images, [workload.own_tags(i, bench.tiny, number) for i in images]
