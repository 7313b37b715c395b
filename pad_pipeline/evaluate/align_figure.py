"""The patches that Align predicts for regions, beside the true ones (paper, figure 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pad_pipeline.evaluate import figure_style
from pad_pipeline.evaluate.figure_style import Grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIDE = 2.7
"""Inches of a picture's longer side."""


def align_figure(
    image_HWC: NDArray[np.uint8],
    grid: Grid,
    regions: Sequence[tuple[str, ArrayLike, ArrayLike, float]],
    title: str = "Patch-level localisation",
) -> Figure:
    """The predicted patches of each region beside its true ones (paper, figure 4).

    `image_HWC` is uint8 RGB as the vision tower sees it, `regions` one (tag, covered_P bool,
    predicted_P bool, IoU 0–1) each, P patches row by row.
    """
    height, width = image_HWC.shape[:2]
    wide, high = _SIDE * width / max(height, width), _SIDE * height / max(height, width)
    pairs_across = 1 if len(regions) <= 1 else 2
    num_rows = max(1, math.ceil(len(regions) / pairs_across))
    gap, pair_gap, left, top, head = 0.1, 0.45, 0.35, 1.0, 0.42
    pair = 2 * wide + gap + pair_gap
    figure = figure_style.new_page(
        left + wide + pairs_across * pair + left, top + num_rows * (head + high) + 0.35
    )
    figure_style.write(figure, left, 0.38, title, size=16, weight="bold")
    mean = sum(iou for *_, iou in regions) / max(len(regions), 1)
    summary = f"mean IoU {mean:.2f} over {len(regions)} regions" if regions else "no region"
    figure_style.write(figure, left, 0.72, summary, size=10.5, color=figure_style.SOFT)
    _legend(figure, left + wide + pair_gap, 0.72)

    figure_style.write(figure, left, top + head - 0.16, "image", size=11, weight="bold")
    axes = figure_style.place(figure, left, top + head, wide, high)
    figure_style.show_image(axes, image_HWC, grid)
    for number, (tag, covered_P, predicted_P, iou) in enumerate(regions):
        covered = figure_style.on_grid(covered_P, grid).astype(bool)
        predicted = figure_style.on_grid(predicted_P, grid).astype(bool)
        row, column = divmod(number, pairs_across)
        x = left + wide + pair_gap + column * pair
        y = top + row * (head + high) + head
        figure_style.write(
            figure, x, y - 0.16, figure_style.shorten(tag, 34), size=11, weight="bold"
        )
        figure_style.write(
            figure, x + 2 * wide + gap, y - 0.16, f"IoU {iou:.2f}", size=11, ha="right",
            color=figure_style.SOFT,
        )  # fmt: skip
        truth = figure_style.place(figure, x, y, wide, high)
        figure_style.show_image(truth, image_HWC, grid, white=0.5)
        figure_style.tint(truth, covered, figure_style.GREEN, 0.55)
        figure_style.outline(truth, covered, figure_style.GREEN)
        found = figure_style.place(figure, x + wide + gap, y, wide, high)
        figure_style.show_image(found, image_HWC, grid, white=0.5)
        figure_style.tint(found, predicted & covered, figure_style.GREEN, 0.55)
        figure_style.tint(found, predicted & ~covered, figure_style.ROSE, 0.6)
        figure_style.outline(found, covered, figure_style.GREEN)
    return figure


def _legend(figure: Figure, left: float, top: float) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import Rectangle

    entries = (
        ("left: covered by the mask", figure_style.GREEN, True),
        ("right: found", figure_style.GREEN, True),
        ("found outside", figure_style.ROSE, True),
        ("missed", figure_style.GREEN, False),
    )
    page_width, page_height = figure.get_size_inches()
    for text, colour, filled in entries:
        figure.add_artist(
            Rectangle(
                (left / page_width, 1 - (top + 0.075) / page_height),
                0.15 / page_width,
                0.15 / page_height,
                transform=figure.transFigure,
                facecolor=to_rgba(colour, 0.55) if filled else "none",
                edgecolor=colour,
                linewidth=1.2,
            )
        )
        figure_style.write(figure, left + 0.22, top, text, size=9.5, color=figure_style.SOFT)
        left += 0.5 + 0.073 * len(text)
