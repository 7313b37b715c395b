"""The pixels of a region whose RGB values an answer gives: a grid of cells, row by row."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.cognition.regions import FrameRegion

RgbSampling = Literal["nearest", "mean"]


def grid_shape(region: FrameRegion, longest: int) -> tuple[int, int]:
    """Rows and columns of cells: `longest` along the longer side, in proportion along the other.

    Never more than there are pixels, never less than one.
    """
    long = max(region.height, region.width)
    rows, columns = (
        max(1, min(side, round(longest * side / long))) for side in (region.height, region.width)
    )
    return rows, columns


def sample_rgb(
    frame: NDArray[np.uint8], region: FrameRegion, shape: tuple[int, int], how: RgbSampling
) -> NDArray[np.uint8]:
    """(rows, columns, 3) uint8: of each cell the pixel at its middle, or the mean of its area.

    Cells share the region's pixels out evenly; a pixel on an edge counts by the part inside.
    """
    pixels = frame[region.window]
    if how == "nearest":
        y, x = (_middles(side, cells) for side, cells in zip(pixels.shape[:2], shape, strict=True))
        return pixels[y[:, None], x]
    down, across = (
        _overlaps(side, cells) for side, cells in zip(pixels.shape[:2], shape, strict=True)
    )
    sums = np.tensordot(down, pixels.astype(np.float64), (1, 0))
    means = np.tensordot(sums, across, (1, 1)).transpose(0, 2, 1)
    return np.floor(means + 0.5).astype(np.uint8)


def _middles(side: int, cells: int) -> NDArray[np.int64]:
    """The pixel that holds the middle of each cell."""
    return (2 * np.arange(cells) + 1) * side // (2 * cells)


def _overlaps(side: int, cells: int) -> NDArray[np.float64]:
    """(cells, side) shares of each cell that each pixel fills; a row's sum is 1."""
    pixels, edges = np.arange(side + 1) * cells, np.arange(cells + 1) * side
    shared = np.minimum(edges[1:, None], pixels[1:]) - np.maximum(edges[:-1, None], pixels[:-1])
    return np.maximum(shared, 0) / side
