"""Loss curves as a figure: one line per run, smoothed, named at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate import figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SMOOTH_OVER = 40
"""Curves of more points than this are drawn smoothed over the raw one."""


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
            f"{figure_style.shorten(_plain(name), 20)}  {y:.3g}",
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


def _plain(name: str) -> str:
    return name.replace("_", " ")
