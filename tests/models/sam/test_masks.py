"""Run-length encoding of masks on the device equals pycocotools'."""

from __future__ import annotations

import pytest
import torch

from pad_pipeline import masks
from pad_pipeline.models.sam.masks import encode_masks


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (13, 17), (64, 48)])
def test_run_lengths_are_pycocotools(shape: tuple[int, int]) -> None:
    drawn = torch.rand(6, *shape, generator=torch.Generator().manual_seed(0)) > 0.5
    drawn[0], drawn[1] = False, True
    for (counts, area), mask in zip(encode_masks(drawn), drawn, strict=True):
        assert counts == masks.encode(mask.numpy())
        assert area == int(mask.sum())
