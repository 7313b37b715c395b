"""Passes of Grounding DINO at its released size on meta tensors, which hold no numbers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import GroundingDinoForObjectDetection

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino import deformable_attention
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.encode import encode_images
from pad_pipeline.models.grounding_dino.forward import detect_pairs
from pad_pipeline.models.grounding_dino.load import to_runtime
from pad_pipeline.models.grounding_dino.phrases import encode_texts
from pad_pipeline.models.grounding_dino.preprocessing import Size
from pad_pipeline.models.grounding_dino.prompts import Prompt
from pad_pipeline.models.grounding_dino.state_dict import infer_config
from tests.golden_data import golden_dir
from tests.launches import LaunchCounter, fused_attention


def meta_detector() -> GroundingDinoDetector:
    """Grounding DINO Swin-T in bfloat16, without numbers."""
    listed = json.loads(golden_dir("gdino_swint_full_keys.json").read_text())
    state = {key: torch.empty(shape, device="meta") for key, shape, *_ in listed["keys"]}
    with torch.device("meta"):
        model = GroundingDinoForObjectDetection(infer_config(state, source="swint"))
    runtime = Runtime("meta", "bfloat16")
    return GroundingDinoDetector(to_runtime(model, runtime), None, runtime)


def count_launches(
    detector: GroundingDinoDetector, canvas: Size, sizes: list[Size] | None = None
) -> dict[str, LaunchCounter]:
    """Launches of a pass of 16 images, each with five to ten tags of its own, part by part.

    Fused attention and the kernel of deformable attention count as the one launch that they are on
    a GPU. Images fill `sizes` of the `canvas`, or all of it.
    """
    prompts = [_prompt(range(image, image + 5 + image % 6)) for image in range(16)]
    ids = [prompt.token_ids for prompt in prompts]
    pixels = torch.empty(16, 3, *canvas, device="meta", dtype=torch.bfloat16)
    parts = {name: LaunchCounter() for name in ("images", "texts", "pairs", "answers")}
    network = detector.network
    with torch.no_grad():
        with _counted(parts["images"]):
            images = encode_images(network, pixels, sizes)
        with _counted(parts["texts"]):
            texts = encode_texts(network, ids)
        with _counted(parts["pairs"]):
            logits, boxes = detect_pairs(network, images, texts)
        with _counted(parts["answers"]):
            detector.score(prompts, logits, boxes)
    return parts


@contextmanager
def _counted(counter: LaunchCounter) -> Iterator[None]:
    """What runs meanwhile is counted, with stand-ins for the two kernels."""
    attention, points = partial(fused_attention, counter), partial(_points, counter)
    with (
        patch.object(torch.nn.functional, "scaled_dot_product_attention", attention),
        patch.object(deformable_attention, "sample_points_with_torch", points),
        counter,
    ):
        yield


def _points(counter: LaunchCounter, value: Tensor, offsets: Tensor, *_: Any) -> Tensor:
    counter.count("points")
    return value.new_empty(*offsets.shape[:2], value.shape[-1])


def _prompt(words: range) -> Prompt:
    """A prompt of these words, every third of which has two tokens."""
    ids, spans = [101], []
    for word in words:
        tokens = [2000 + word] * (1 + (word % 3 == 0))
        spans.append((len(ids), len(ids) + len(tokens)))
        ids += [*tokens, 1012]
    return Prompt((*ids, 102), tuple(map(str, words)), tuple(spans))
