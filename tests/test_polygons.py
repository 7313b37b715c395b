"""Polygons around masks, filled again, also by pycocotools."""

from __future__ import annotations

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from scipy import ndimage

from pad_pipeline.polygons import join, signed_area, simplify, trace


def blobs(seed: int, height: int = 60, width: int = 83, smooth: float = 2.0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return ndimage.gaussian_filter(noise, smooth) > 0.02 if smooth else noise > 0.3


def fill(loops: list[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """By the parity of the crossings left of each pixel's centre."""
    inside = np.zeros(shape, dtype=bool)
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    for loop in loops:
        for (x0, y0), (x1, y1) in zip(loop, np.roll(loop, -1, axis=0), strict=True):
            if y0 == y1:
                continue
            crosses = (np.minimum(y0, y1) <= y) & (y < np.maximum(y0, y1))
            inside ^= crosses & (x > x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


@pytest.mark.parametrize("smooth", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_filling_the_loops_gives_the_mask_back(seed: int, smooth: float) -> None:
    mask = blobs(seed, smooth=smooth)
    loops = trace(mask)
    assert (fill(loops, mask.shape) == mask).all()
    areas = [signed_area(loop) for loop in loops]
    assert sum(areas) == mask.sum()
    assert areas == sorted(areas, reverse=True)
    parts = ndimage.label(mask)[1]
    assert sum(area > 0 for area in areas) == parts


def test_pixels_that_touch_at_a_corner_are_two_parts() -> None:
    for mask in (np.eye(2, dtype=bool), np.eye(2, dtype=bool)[::-1]):
        loops = trace(mask)
        assert sorted(map(len, loops)) == [4, 4]
        assert [signed_area(loop) for loop in loops] == [1, 1]


def test_the_simplest_masks() -> None:
    assert trace(np.zeros((3, 4), dtype=bool)) == []
    [whole] = trace(np.ones((3, 4), dtype=bool))
    assert sorted(map(tuple, whole.tolist())) == [(0, 0), (0, 3), (4, 0), (4, 3)]
    ring = np.ones((5, 5), dtype=bool)
    ring[2, 2] = False
    assert [signed_area(loop) for loop in trace(ring)] == [25, -1]


@pytest.mark.parametrize("seed", range(4))
def test_a_simplified_loop_is_as_near_as_is_promised(seed: int) -> None:
    for loop in trace(blobs(seed, smooth=3.0)):
        fewer = simplify(loop, 1.0)
        assert 3 <= len(fewer) <= len(loop)
        ends = np.roll(fewer, -1, axis=0) - fewer
        offsets = loop[:, None] - fewer[None]
        along = np.clip((offsets * ends).sum(2) / (ends**2).sum(1), 0, 1)
        nearest = np.linalg.norm(offsets - along[..., None] * ends, axis=2).min(axis=1)
        assert nearest.max() <= 1.0 + 1e-9


@pytest.mark.parametrize("seed", range(4))
def test_one_polygon_holds_parts_and_holes(seed: int) -> None:
    mask = blobs(seed, 120, 150, smooth=3.0)
    loops = trace(mask)
    assert any(signed_area(loop) < 0 for loop in loops)
    assert len(loops) > 3
    whole = join(loops)
    assert (fill([whole], mask.shape) == mask).all()
    # As pycocotools fills it, in a way of its own.
    runs = coco_mask.frPyObjects([whole.ravel().tolist()], *mask.shape)
    as_coco = coco_mask.decode(runs)[..., 0].astype(bool)
    assert (as_coco & mask).sum() / (as_coco | mask).sum() > 0.97
