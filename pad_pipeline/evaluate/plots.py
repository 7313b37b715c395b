"""Figures of the measures: Align masks beside the truth, loss curves, and tokenmaps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pad_pipeline.evaluate import figure_style
from pad_pipeline.evaluate.figure_style import Grid, png
from pad_pipeline.evaluate.tokenmaps import tokenmap_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["align_figure", "loss_curves_figure", "png", "tokenmap_figure"]

_SIDE = 2.7
"""Inches of a picture's longer side."""
_SMOOTH_OVER = 40
"""Curves of more points than this are drawn smoothed over the raw one."""


# --- Align -----------------------------------------------------------------------------------


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
        figure_style.write(figure, x, y - 0.16, _shorten(tag), size=11, weight="bold")
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


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _shorten(text: str, longest: int = 34) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


# --- losses ----------------------------------------------------------------------------------


def loss_curves_figure(
    curves: Mapping[str, Sequence[tuple[int, float]]], title: str = "Loss", unit: str = ""
) -> Figure:
    """One line per name over the optimiser's steps; (step, value), NaN leaves a gap.

    Long curves are drawn smoothed, with the raw values faint behind them. Names of the form
    "panel/line" are spread over one panel per first part, which takes the place of `title`.
    """
    panels: dict[str, dict[str, Sequence[tuple[int, float]]]] = {}
    for name, points in curves.items():
        panel, slash, line = name.partition("/")
        panels.setdefault(panel if slash else title, {})[line if slash else name] = points
    lines = list(dict.fromkeys(line for panel in panels.values() for line in panel))
    colours = {
        line: figure_style.LINES[i % len(figure_style.LINES)] for i, line in enumerate(lines)
    }
    width, height, gap, left, top = 5.4, 3.5, 2.5, 0.75, 0.7 + (0.25 if unit else 0)
    if not panels:
        panels[title] = {}
    figure = figure_style.new_page(left + len(panels) * (width + gap), top + height + 0.7)
    for number, (name, panel) in enumerate(panels.items()):
        x = left + number * (width + gap)
        figure_style.write(figure, x, 0.36, _plain(name), size=15, weight="bold")
        figure_style.write(figure, x, 0.68, unit, size=10, color=figure_style.SOFT)
        axes = figure_style.place(figure, x, top, width, height)
        _dress(axes)
        ends = []
        for line, points in panel.items():
            if (last := _draw_line(axes, points, colours[line])) is not None:
                ends.append((last, line))
        _name_ends(axes, ends, colours)
    return figure


def _draw_line(axes: Axes, points: Sequence[tuple[int, float]], colour: str) -> float | None:
    """Draw one curve; its last finite value as drawn, or None where it has none."""
    steps = np.array([step for step, _ in points], float)
    values = np.array([value for _, value in points], float)
    values[~np.isfinite(values)] = np.nan
    if not np.isfinite(values).any():
        return None
    shown = values
    if len(points) > _SMOOTH_OVER:
        axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.22, zorder=2)
        shown = _smooth(values, max(3, len(points) // 25))
    dots = {"marker": "o", "markersize": 4} if shown is values else {}
    axes.plot(steps, shown, color=colour, linewidth=2, zorder=3, **dots)
    return float(shown[np.isfinite(shown)][-1])


def _smooth(values: NDArray[np.float64], window: int) -> NDArray[np.float64]:
    """The mean over `window` values around each, of those that are there."""
    there = np.isfinite(values)
    kernel = np.ones(window | 1)
    total = np.convolve(np.where(there, values, 0), kernel, mode="same")
    return np.where(there, total / np.maximum(np.convolve(there, kernel, mode="same"), 1), np.nan)


def _name_ends(axes: Axes, ends: list[tuple[float, str]], colours: Mapping[str, str]) -> None:
    """Each line's name and last value beside its end, moved apart where they would overlap."""
    bottom, top = axes.get_ylim()
    if not ends:
        axes.text(
            0.5,
            0.5,
            "no values yet",
            transform=axes.transAxes,
            ha="center",
            color=figure_style.SOFT,
        )
        return
    least = 0.075
    heights = sorted(((y - bottom) / (top - bottom), name, y) for y, name in ends)
    places = [height for height, _, _ in heights]
    for _ in range(100):
        for i in range(len(places) - 1):
            if (short := least - (places[i + 1] - places[i])) > 1e-6:
                places[i] -= short / 2
                places[i + 1] += short / 2
    for place, (_, name, y) in zip(places, heights, strict=True):
        axes.annotate(
            f"{_shorten(_plain(name), 20)}  {y:.3g}",
            (1.02, place),
            xycoords="axes fraction",
            va="center",
            size=10.5,
            color=colours[name],
            parse_math=False,
            annotation_clip=False,
        )


def _dress(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(figure_style.SOFT)
    axes.tick_params(colors=figure_style.SOFT, length=0, labelsize=10, pad=6)
    axes.grid(axis="y", color=figure_style.RULE, linewidth=1, zorder=0)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("step", color=figure_style.SOFT, size=10, loc="right")
    axes.margins(x=0.01, y=0.06)
