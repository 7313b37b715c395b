"""What the detector sees in training: images at its size, prompts, and the targets of both."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from pad_pipeline.scenes.generator import KINDS
from tools.annotators.data import Sample, resize, to_tensor
from tools.annotators.detector_files import TOKENS_OF, VOCABULARY
from tools.annotators.detector_losses import Targets

SHORT_SIDE, LONG_SIDE = 192, 256
"""Pixels: the shorter side is made this long unless the longer one would pass its own."""


def frame_size(height: int, width: int) -> tuple[int, int]:
    """The (height, width) that transformers' Grounding DINO processor resizes an image to."""
    short, long = min(height, width), max(height, width)
    side = SHORT_SIDE
    if long / short * side > LONG_SIDE:
        side = round(LONG_SIDE * short / long)
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def draw_prompt(sample: Sample, rng: np.random.Generator) -> list[int]:
    """The kinds to ask for, shuffled: what is there, up to eight things that are not.

    In one case of twelve a thing that is there is not asked for, and then is no target.
    """
    present = np.unique(sample.kinds)
    absent = np.setdiff1d(np.arange(len(KINDS)), present)
    asked = list(present)
    if len(asked) > 1 and rng.random() < 1 / 12:
        asked.pop(int(rng.integers(len(asked))))
    count = int(rng.integers(0, 9)) if rng.random() < 0.5 else int(rng.integers(0, 3))
    asked += list(rng.permutation(absent)[:count])
    return [int(kind) for kind in rng.permutation(asked)]


def make_batch(
    samples: list[Sample], prompts: list[list[int]]
) -> tuple[dict[str, Tensor], list[Targets]]:
    """The model's inputs, padded, and what it should find: boxes (cx, cy, w, h in 0–1), tokens."""
    images = [to_tensor(resize(s.image, *frame_size(*s.image.shape[:2]))) for s in samples]
    height, width = (max(image.shape[axis] for image in images) for axis in (1, 2))
    pixels = torch.zeros(len(samples), 3, height, width)
    pixel_mask = torch.zeros(len(samples), height, width, dtype=torch.long)
    texts, spans = zip(*(prompt_tokens(prompt) for prompt in prompts), strict=True)
    length = max(len(text) for text in texts)
    ids = torch.zeros(len(samples), length, dtype=torch.long)
    text_mask = torch.zeros(len(samples), length, dtype=torch.long)
    targets = []
    for row, (sample, image) in enumerate(zip(samples, images, strict=True)):
        pixels[row, :, : image.shape[1], : image.shape[2]] = image
        pixel_mask[row, : image.shape[1], : image.shape[2]] = 1
        ids[row, : len(texts[row])] = torch.tensor(texts[row])
        text_mask[row, : len(texts[row])] = 1
        asked = [k for k, kind in enumerate(sample.kinds) if int(kind) in spans[row]]
        tokens = torch.zeros(len(asked), length)
        for place, k in enumerate(asked):
            tokens[place, slice(*spans[row][int(sample.kinds[k])])] = 1
        x0, y0, x1, y1 = torch.from_numpy(sample.boxes[asked]).unbind(1)
        boxes = torch.stack([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0], 1)
        h, w = sample.image.shape[:2]
        targets.append(Targets(boxes / torch.tensor([w, h, w, h]), tokens))
    inputs = {
        "pixel_values": pixels,
        "pixel_mask": pixel_mask,
        "input_ids": ids,
        "attention_mask": text_mask,
    }
    return inputs, targets


def prompt_tokens(kinds: list[int]) -> tuple[list[int], dict[int, tuple[int, int]]]:
    """`[CLS] tag . tag . [SEP]` and where each kind's tokens stand."""
    ids, spans = [VOCABULARY.index("[CLS]")], {}
    for kind in kinds:
        spans[kind] = (len(ids), len(ids) + len(TOKENS_OF[KINDS[kind]]))
        ids += [*TOKENS_OF[KINDS[kind]], VOCABULARY.index(".")]
    return [*ids, VOCABULARY.index("[SEP]")], spans
