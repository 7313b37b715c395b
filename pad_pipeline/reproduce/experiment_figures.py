"""The figures of an experiment's report: bars of the measures, curves of matching pursuit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pad_pipeline.evaluate import figure_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Arms = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""Arm -> measure -> `mean` and `values` of the seeds."""

_PANEL, _GAP, _BAR = 2.3, 0.35, 0.32
_MARKERS_AND_LINES = (("o", "-"), ("s", "--"), ("^", ":"))


def bars_figure(arms: Arms, measures: Mapping[str, str]) -> Figure:
    """A panel for each measure with a bar for each arm; dots are the seeds."""
    shown = [name for name in measures if all(name in values for values in arms.values())]
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    height = _BAR * len(arms)
    names = 0.3 + 0.085 * max(len(arm) for arm in arms)
    figure = figure_style.new_page(
        names + columns * (_PANEL + _GAP) + 0.2, 0.3 + rows * (height + 0.85)
    )
    for number, name in enumerate(shown):
        row, column = divmod(number, columns)
        x, y = names + column * (_PANEL + _GAP), 0.6 + row * (height + 0.85)
        figure_style.write(figure, x, y - 0.2, measures[name], size=12, weight="bold")
        axes = figure_style.place(figure, x, y, _PANEL, height)
        places = range(len(arms))
        means = [values[name]["mean"] for values in arms.values()]
        axes.barh(places, means, color=figure_style.LINES[0], alpha=0.75, height=0.62)
        for place, values in zip(places, arms.values(), strict=True):
            dots = values[name]["values"]
            axes.plot(dots, [place] * len(dots), "o", color="#1c2128", markersize=3)
        _dress(axes, len(arms))
        if column == 0:
            for place, arm in zip(places, arms, strict=True):
                middle = y + (place + 0.5) * height / len(arms)
                figure_style.write(figure, x - 0.15, middle, arm, size=10, ha="right")
    return figure


def pursuit_figure(arms: Arms) -> Figure:
    """Precision and recall over the iterations, a line for each arm."""
    iterations = sorted(
        int(name.rpartition("_")[2]) for name in next(iter(arms.values())) if "precision_" in name
    )
    legend = 0.7 + 0.08 * max(len(arm) for arm in arms)
    figure = figure_style.new_page(7.2 + legend, 3.6)
    for number, kind in enumerate(("precision", "recall")):
        x = 0.7 + number * 3.6
        figure_style.write(figure, x, 0.35, kind, size=12, weight="bold")
        axes = figure_style.place(figure, x, 0.6, 2.9, 2.4)
        for look, (arm, values) in zip(_looks(len(arms)), arms.items(), strict=True):
            heights = [values[f"{kind}_{k}"]["mean"] for k in iterations]
            axes.plot(iterations, heights, linewidth=2, markersize=4, label=arm, **look)
        axes.set_ylim(0, 1)
        axes.set_xticks(iterations)
        axes.set_xlabel("words picked", size=10, color=figure_style.SOFT, loc="right")
        axes.grid(axis="y", color=figure_style.RULE)
        axes.tick_params(colors=figure_style.SOFT, length=0, labelsize=9)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        if number == 1:
            axes.legend(loc="center left", bbox_to_anchor=(1.03, 0.5), frameon=False, fontsize=9.5)
    return figure


def _looks(number: int) -> list[dict[str, Any]]:
    """How each line is drawn: where the colours come again, it is dashed, then dotted."""
    looks: list[dict[str, Any]] = []
    for place in range(number):
        turn, colour = divmod(place, len(figure_style.LINES))
        marker, line = _MARKERS_AND_LINES[turn % len(_MARKERS_AND_LINES)]
        look = {"color": figure_style.LINES[colour], "marker": marker, "linestyle": line}
        looks.append(look)
    return looks


def _dress(axes: Axes, number: int) -> None:
    axes.set_ylim(number - 0.5, -0.5)
    axes.set_yticks([])
    axes.axvline(0, color=figure_style.SOFT, linewidth=0.8)
    axes.grid(axis="x", color=figure_style.RULE)
    axes.set_axisbelow(True)
    axes.tick_params(colors=figure_style.SOFT, length=0, labelsize=8.5)
    axes.locator_params(axis="x", nbins=4)
    for side in axes.spines.values():
        side.set_visible(False)
