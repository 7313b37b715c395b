"""Precision against recall as a figure: a small panel for each tag."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate import figure_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECALLS: NDArray[np.float64] = np.linspace(0, 1, 101)
"""The recalls at which COCO's evaluation gives precisions."""
_COLUMNS, _WIDTH, _HEIGHT = 6, 2.0, 1.5
_MOST = 48
"""Panels; of more tags those with the least AP are left out, which the title says."""


def pr_curves_figure(curves: Mapping[str, NDArray[np.float64]]) -> Figure:
    """A panel for each name, best AP50 first: (101,) precisions at `RECALLS`, 0–1."""
    ranked = sorted(curves, key=lambda name: (-float(curves[name].mean()), name))
    shown = ranked[:_MOST]
    columns = min(_COLUMNS, max(3, len(shown)))
    rows = max(1, math.ceil(len(shown) / columns))
    figure = figure_style.new_page(0.5 + columns * (_WIDTH + 0.35), 1.0 + rows * (_HEIGHT + 0.75))
    title = "Precision against recall, boxes at IoU 0.5"
    figure_style.write(figure, 0.5, 0.35, title, size=15, weight="bold")
    rest = f", the best {_MOST} of {len(ranked)}" if len(ranked) > _MOST else ""
    figure_style.write(
        figure, 0.5, 0.65, f"by tag, AP50 beside its name{rest}", size=10, color=figure_style.SOFT
    )
    for number, name in enumerate(shown):
        row, column = divmod(number, columns)
        x, y = 0.5 + column * (_WIDTH + 0.35), 1.2 + row * (_HEIGHT + 0.75)
        label = f"{figure_style.shorten(name, 18)}  {curves[name].mean():.2f}"
        figure_style.write(figure, x, y - 0.15, label, size=9.5)
        axes = figure_style.place(figure, x, y, _WIDTH, _HEIGHT)
        axes.fill_between(
            RECALLS, curves[name], color=figure_style.LINES[0], alpha=0.15, linewidth=0
        )
        axes.plot(RECALLS, curves[name], color=figure_style.LINES[0], linewidth=1.8)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.04)
        axes.set_xticks([0, 0.5, 1])
        axes.set_yticks([0, 0.5, 1])
        axes.tick_params(colors=figure_style.SOFT, length=0, labelsize=7.5)
        axes.grid(color=figure_style.RULE, linewidth=0.8)
        for side in axes.spines.values():
            side.set_visible(False)
    return figure
