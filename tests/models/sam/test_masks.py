"""Run-length encoding of masks on the device equals pycocotools'."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from pad_pipeline.geometry import geometry
from pad_pipeline.models.sam.masks import MaskEncoder, Runs

SHAPES = [(1, 1), (1, 9), (9, 1), (13, 17), (64, 48)]


def drawn(shape: tuple[int, int]) -> Tensor:
    """An empty mask, a full one and four of noise."""
    masks = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)) > 0.5
    masks[0], masks[1] = False, True
    return masks


def by_pycocotools(masks: Tensor) -> Runs:
    found: list[Any] = [
        coco_mask.encode(np.asfortranarray(mask.numpy().astype(np.uint8))) for mask in masks
    ]
    return [(rle["counts"].decode(), int(coco_mask.area(rle))) for rle in found]


@pytest.mark.parametrize("shape", SHAPES)
def test_run_lengths_are_pycocotools(shape: tuple[int, int]) -> None:
    encoder = MaskEncoder(10**6, 0.0)
    encoder.add(drawn(shape))
    assert encoder.results() == by_pycocotools(drawn(shape))
    assert encoder.results() == []


@pytest.mark.parametrize("max_pixels", [1, 500, 10**6])
@pytest.mark.parametrize("num_threads", [0, 2])
def test_masks_of_many_sizes_keep_their_order(max_pixels: int, num_threads: int) -> None:
    expected = [runs for shape in SHAPES for runs in by_pycocotools(drawn(shape))]
    threads = ThreadPoolExecutor(num_threads) if num_threads else None
    encoder = MaskEncoder(max_pixels, 0.0, threads)
    for shape in SHAPES:
        encoder.add(drawn(shape))
    assert encoder.results() == expected


def test_a_group_of_masks_is_searched_once_and_copied_once(monkeypatch) -> None:
    calls: list[int] = []
    nonzero = torch.nonzero

    def count(values: Tensor) -> Tensor:
        calls.append(values.numel())
        return nonzero(values)

    monkeypatch.setattr(torch, "nonzero", count)
    encoder = MaskEncoder(10**6, 0.0)
    for shape in SHAPES:
        encoder.add(drawn(shape))
    encoder.results()
    assert calls == [6 * sum(height * width for height, width in SHAPES)]


def test_stability_is_the_share_that_a_higher_threshold_leaves() -> None:
    logits = torch.full((3, 1, 8, 8), -9.0)
    logits[0, 0, :4] = 9.0  # sharp
    logits[1, 0, :4] = 0.5  # above 0 and -1, not above 1
    logits[1, 0, :1] = 9.0
    encoder = MaskEncoder(10**6, 0.0, stability=True)
    encoder.add_logits(logits, geometry("squash", 8, 8, 8), padded=False)
    assert encoder.stabilities() == [1.0, 0.25, 0.0]
    assert [area for _, area in encoder.results()] == [32, 32, 0]
    assert MaskEncoder(10**6, 0.0).stabilities() == []
