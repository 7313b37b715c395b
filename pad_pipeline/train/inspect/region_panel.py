"""The regions of a sample: its frame, their patches tinted and numbered, and the legend."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pad_pipeline.drawing.colours import tag_colour
from pad_pipeline.train.inspect.page import (
    MARGIN,
    PICTURE,
    SOFT,
    TITLES,
    WIDTH,
    add_axes,
    readable,
    write,
    write_title,
)
from pad_pipeline.train.regions import covered_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEGEND_ROW, _MAX_LEGEND_ROWS, _LONGEST_TAG = 0.265, 17, 17


def covered_patches(coverage_RP: NDArray[np.floating], tags: Sequence[str]) -> NDArray[np.bool_]:
    """(R, grid, grid) bool: at least half of the patch lies in the region."""
    coverage = np.asarray(coverage_RP)
    grid = math.isqrt(coverage.shape[-1])
    if coverage.ndim != 2 or len(coverage) != len(tags) or grid < 1 or grid**2 != coverage.shape[1]:
        raise ValueError(
            f"coverage of shape {coverage.shape} for {len(tags)} tags: expected one row for each "
            "tag and a square number of patches"
        )
    covered = covered_tokens(torch.tensor(coverage)).numpy()
    return covered.reshape(len(tags), grid, grid)


def show_frame(figure: Figure, x: float, pixels: NDArray[np.uint8]) -> Axes:
    axes = add_axes(figure, x, MARGIN + TITLES, PICTURE, PICTURE)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    return axes


def draw_regions(
    axes: Axes, covered: NDArray[np.bool_], tags: Sequence[str], shape: tuple[int, ...]
) -> None:
    """The grid, and each region's patches tinted, outlined and numbered as in the legend."""
    from matplotlib.collections import LineCollection

    (height, width), grid = shape[:2], covered.shape[1]
    step = np.array([width, height]) / grid
    whole = (0, width, height, 0)
    # A veil first: tints are told apart on a pale picture more easily than on a colourful one.
    axes.imshow(np.full((1, 1, 4), (1, 1, 1, 0.35)), extent=whole)
    at = np.arange(grid + 1)
    straight = [((a, 0), (a, grid)) for a in at] + [((0, a), (grid, a)) for a in at]
    axes.add_collection(
        LineCollection(np.array(straight) * step, colors="black", linewidths=0.4, alpha=0.18)
    )
    for tag, patches in zip(tags, covered, strict=True):
        axes.imshow(
            np.dstack([np.broadcast_to(_colour(tag), (grid, grid, 3)), 0.55 * patches]),
            extent=whole,
            interpolation="nearest",
        )
    for tag, patches in zip(tags, covered, strict=True):
        sides = np.array(outline(patches)).reshape(-1, 2, 2) * step
        dark = _colour(tag) * 0.62
        axes.add_collection(LineCollection(sides, colors=dark, linewidths=1.8, capstyle="round"))
    for number, (tag, patches) in enumerate(zip(tags, covered, strict=True), 1):
        if patches.any():
            x, y = (middle(patches) + 0.5) * step
            _badge(axes, x, y, number, tag)


def draw_legend(figure: Figure, x: float, covered: NDArray[np.bool_], tags: Sequence[str]) -> None:
    write_title(figure, x, "Regions", "number, tag, patches")
    width = WIDTH - MARGIN - x
    axes = add_axes(figure, x, MARGIN + TITLES, width, PICTURE)
    axes.set(xlim=(0, width), ylim=(PICTURE, 0))
    if not tags:
        write(axes, 0, 0.15, "none", size=10.5, color=SOFT, style="italic")
    shown = len(tags) if len(tags) <= _MAX_LEGEND_ROWS else _MAX_LEGEND_ROWS - 1
    for row, (tag, patches) in enumerate(zip(tags[:shown], covered[:shown], strict=True)):
        y, count = 0.15 + row * _LEGEND_ROW, int(patches.sum())
        name = readable(tag, _LONGEST_TAG)
        if count:
            _badge(axes, 0.13, y, row + 1, tag)
            write(axes, 0.36, y, name, size=10.5)
        else:
            write(axes, 0.13, y, str(row + 1), size=8.5, color=SOFT, ha="center")
            write(axes, 0.36, y, name, size=10.5, color=SOFT, style="italic")
        write(axes, width, y, str(count) if count else "none", size=10, color=SOFT, ha="right")
    if shown < len(tags):
        y = 0.15 + shown * _LEGEND_ROW
        write(axes, 0.36, y, f"and {len(tags) - shown} more", size=10, color=SOFT)


def outline(patches: NDArray[np.bool_]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """((x, y), (x, y)) in patches: the sides of covered patches whose other side is not covered."""
    padded = np.pad(patches, 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return [((x, y), (x, y + 1)) for y, x in upright] + [((x, y), (x + 1, y)) for y, x in level]


def middle(patches: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(x, y) of the covered patch nearest to the centre of all: a ring's centre is outside it."""
    found = np.argwhere(patches)[:, ::-1]
    return found[((found - found.mean(axis=0)) ** 2).sum(axis=1).argmin()]


def _badge(axes: Axes, x: float, y: float, number: int, tag: str) -> None:
    write(
        axes,
        x,
        y,
        str(number),
        size=8.5,
        weight="bold",
        color="white",
        ha="center",
        bbox={
            "boxstyle": "circle,pad=0.25",
            "facecolor": _colour(tag) * 0.55,
            "edgecolor": "white",
        },
    )


def _colour(tag: str) -> NDArray[np.float64]:
    return np.array(tag_colour(tag)) / 255
