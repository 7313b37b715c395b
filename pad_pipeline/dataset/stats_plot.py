"""One page that shows what is in a data set: its numbers, histograms and most frequent tags."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pad_pipeline import storage
from pad_pipeline.dataset.stats import AREA_FRACTION_EDGES, Histogram, Stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAPER, _INK, _SOFT, _GRID = "#faf9f6", "#22252b", "#767b85", "#e7e5df"
_BLUE, _GREEN, _AMBER, _ROSE = "#3c78b4", "#3f9a79", "#d1922f", "#c8596b"
_NUM_TAGS = 18
_LONGEST_TAG = 22


def plot(stats: Stats, path: str) -> None:
    """Draws the figures as one 16:9 page, a PNG of 1920×1080 pixels, at a local path or URL."""
    storage.write_atomic(path, draw_page(stats))


def draw_page(stats: Stats) -> bytes:
    """The figures as a PNG of 1920×1080 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(16, 9), dpi=120, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        2, 2, left=0.045, right=0.625, bottom=0.075, top=0.725, wspace=0.2, hspace=0.48
    )
    _headline(figure, stats)
    last = max((n for n, count in enumerate(stats.regions_per_image) if count), default=0)
    names = [str(n) for n in range(len(stats.regions_per_image) - 1)]
    names.append(f"{len(names)}+")
    _bars(
        figure.add_subplot(grid[0, 0]),
        "Regions per image",
        "images",
        names[: last + 1],
        stats.regions_per_image[: last + 1],
        _BLUE,
    )
    _bars(
        figure.add_subplot(grid[0, 1]),
        "Mask area as a share of the image",
        "regions",
        [f"{_percent(a)}–{_percent(b)}%" for a, b in pairwise(AREA_FRACTION_EDGES)],
        stats.area_share.counts,
        _GREEN,
    )
    _spread(figure.add_subplot(grid[1, 0]), "Detector's score", stats.score, _AMBER)
    _spread(figure.add_subplot(grid[1, 1]), "Predicted mask IoU", stats.predicted_iou, _ROSE)
    _tags(figure.add_axes((0.785, 0.075, 0.18, 0.65)), stats)
    figure.text(0.665, 0.7555, "Most frequent tags", size=14, weight="bold", color=_INK)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=_PAPER)
    return file.getvalue()


def _headline(figure, stats: Stats) -> None:
    name = stats.url.rstrip("/").rsplit("/", 1)[-1] or stats.url
    title = "Patch-Aligned Dataset" + ("" if stats.state == "finished" else f" ({stats.state})")
    figure.text(0.045, 0.945, title, size=23, weight="bold", color=_INK, va="center")
    figure.text(0.965, 0.945, name, size=14, color=_SOFT, ha="right", va="center")
    status = stats.images_by_status
    without = stats.num_tags_without_region / max(stats.num_tags_given, 1)
    numbers = (
        (f"{stats.num_images:,}", "images"),
        (f"{stats.num_regions:,}", "regions"),
        (f"{stats.mean_regions:.1f}", "regions per image"),
        (f"{stats.num_region_tags:,}", "different tags"),
        (f"{status.get('empty', 0):,} / {status.get('failed', 0):,}", "images empty / failed"),
        (f"{without:.0%}", "of given tags without a region"),
    )
    for index, (value, meaning) in enumerate(numbers):
        x = 0.045 + index * 0.92 / len(numbers)
        figure.text(x, 0.868, value, size=25, weight="bold", color=_BLUE, va="center")
        figure.text(x, 0.824, meaning, size=12, color=_SOFT, va="center")


def _bars(
    axes: Axes, title: str, unit: str, names: Sequence[str], counts: Sequence[int], colour: str
) -> None:
    places = list(range(len(names)))
    axes.bar(places, counts, width=0.78, color=colour, zorder=2)
    axes.set_xticks(places, names, rotation=0 if max(map(len, names), default=0) < 4 else 30)
    _dress(axes, title, unit, grid="y")


def _spread(axes: Axes, title: str, histogram: Histogram, colour: str) -> None:
    widths = [0.9 * (high - low) for low, high in pairwise(histogram.edges)]
    middles = [(low + high) / 2 for low, high in pairwise(histogram.edges)]
    axes.bar(middles, histogram.counts, width=widths, color=colour, zorder=2)
    axes.set_xlim(histogram.edges[0], histogram.edges[-1])
    _dress(axes, title, "regions", grid="y")
    total = sum(histogram.counts)
    if total:
        below, median = 0, histogram.edges[-1]
        for (low, high), count in zip(pairwise(histogram.edges), histogram.counts, strict=True):
            if count and below + count >= total / 2:
                median = low + (high - low) * (total / 2 - below) / count
                break
            below += count
        axes.axvline(median, color=_INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
        side = "right" if median > 0.5 else "left"
        axes.annotate(
            f"median {median:.2f}",
            (median, 1.02),
            xycoords=("data", "axes fraction"),
            ha=side,
            size=10.5,
            color=_INK,
        )


def _tags(axes: Axes, stats: Stats) -> None:
    shown = stats.top_tags[:_NUM_TAGS]
    names = [tag if len(tag) <= _LONGEST_TAG else tag[: _LONGEST_TAG - 1] + "…" for tag, _ in shown]
    counts = [count for _, count in shown]
    places = list(range(len(shown)))
    axes.barh(places, counts, height=0.72, color=_BLUE, zorder=2)
    # Names are text of the data set, in which "$" must not start a formula.
    axes.set_yticks(places, names, parse_math=False)
    axes.set_ylim(max(len(shown), 6) - 0.4, -0.6)
    for place, count in zip(places, counts, strict=True):
        axes.annotate(
            f"{count:,}", (count, place), (5, 0), textcoords="offset points", va="center",
            size=10.5, color=_SOFT,
        )  # fmt: skip
    axes.set_xlim(0, max(counts, default=1) * 1.2)
    _dress(axes, "", "", grid="")
    axes.set_xticks([])


def _dress(axes: Axes, title: str, unit: str, grid: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_facecolor(_PAPER)
    axes.set_title(title, loc="left", size=14, weight="bold", color=_INK, pad=20)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(side == "bottom" and grid == "y")
    axes.spines["bottom"].set_color(_SOFT)
    axes.tick_params(colors=_INK if grid == "" else _SOFT, length=0, labelsize=11, pad=6)
    if grid:
        axes.grid(axis="y", color=_GRID, linewidth=1, zorder=0)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.text(0, 1.03, unit, transform=axes.transAxes, size=10.5, color=_SOFT)


def _short(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g}"
