"""Histograms of what the filters leave, each bar with the filters that it stands for.

As a histogram's own range is left out of what it counts, its other bars can still be chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from pad_pipeline.dataset.stats import AREA_FRACTION_EDGES, MANY_REGIONS, SCORE_EDGES, Stats
from pad_pipeline.view.conditions import region_clause, where_clause
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.queries import Index

_NUM_TAGS = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """`number` of images or regions; `low` and `high` are the values of the filters, None for no
    bound, and `chosen` says whether the bar passes the present ones."""

    name: str
    number: int
    low: float | None
    high: float | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """One histogram, and the filters that bound it from below and above."""

    title: str
    unit: str
    low: str
    high: str
    bars: tuple[Bar, ...]

    @property
    def largest(self) -> int:
        """Of the bars' numbers, at least 1."""
        return max(1, *(bar.number for bar in self.bars))


@dataclass(frozen=True, slots=True)
class _Measure:
    """A number of a region: its column, the edges of its bins, its filters, and the signs after
    its values on the page."""

    title: str
    column: str
    edges: tuple[float, ...]
    low: str
    high: str
    percent: bool = False

    def name(self, low: float, high: float) -> str:
        if self.percent:
            return f"{100 * low:g}–{100 * high:g} %"
        return f"{low:.2f}–{high:.2f}"

    def bin(self) -> str:
        """SQL of the number of a value's bin; what lies outside counts in the outermost."""
        value = f"CASE WHEN isfinite({self.column}) THEN {self.column} ELSE 0 END"
        inner = (f"({value} >= {edge}::FLOAT)::TINYINT" for edge in self.edges[1:-1])
        return " + ".join(inner)


_MEASURES = (
    _Measure("Score", "score", SCORE_EDGES, "min_score", "max_score"),
    _Measure("Predicted IoU", "predicted_iou", SCORE_EDGES, "min_iou", "max_iou"),
    _Measure(
        "Mask's share of the image", "share", AREA_FRACTION_EDGES, "min_share", "max_share", True
    ),
)


def region_charts(index: Index, filters: Filters) -> list[Chart]:
    """Score, predicted IoU and area of the regions that pass, in the images that pass."""
    of_filters: dict[Filters, list[_Measure]] = {}
    for measure in _MEASURES:
        without = filters.model_copy(update={measure.low: None, measure.high: None})
        of_filters.setdefault(without, []).append(measure)
    counts: dict[str, Sequence[int]] = {}
    for without, measures in of_filters.items():
        if without.any:
            counts |= _count(index, without, measures)
        else:
            known = _known(index.stats)
            counts |= {measure.column: known[measure.column] for measure in measures}
    return [_chart(measure, counts[measure.column], filters) for measure in _MEASURES]


def _known(stats: Stats) -> dict[str, Sequence[int]]:
    return {
        "score": stats.score.counts,
        "predicted_iou": stats.predicted_iou.counts,
        "share": stats.area_share.counts,
    }


def _count(index: Index, filters: Filters, measures: list[_Measure]) -> dict[str, Sequence[int]]:
    """By column the numbers of all bins, read at once."""
    where, values = region_clause(filters)
    bins = ", ".join(f"{each.bin()} AS b{number}" for number, each in enumerate(measures))
    names = [f"b{number}" for number in range(len(measures))]
    sets = ", ".join(f"({name})" for name in names)
    found = index.rows(
        f"SELECT {', '.join(names)}, count(*) AS number FROM "
        f"(SELECT {bins} FROM regions WHERE {where}) GROUP BY GROUPING SETS ({sets})",
        values,
    )
    counts = {each.column: [0] * (len(each.edges) - 1) for each in measures}
    for row in found:
        [(name, bin_)] = [(n, row[n]) for n in names if row[n] is not None]
        counts[measures[names.index(name)].column][bin_] = row["number"]
    return dict(counts)


def _chart(measure: _Measure, counts: Sequence[int], filters: Filters) -> Chart:
    least, most = getattr(filters, measure.low), getattr(filters, measure.high)
    last = measure.edges[-1]
    bars = tuple(
        Bar(
            measure.name(low, high),
            number,
            low or None,
            high if high < last else None,
            chosen=(least is None or high > least) and (most is None or low < most),
        )
        for (low, high), number in zip(pairwise(measure.edges), counts, strict=True)
    )
    return Chart(measure.title, "region", measure.low, measure.high, bars)


def image_chart(index: Index, filters: Filters) -> Chart:
    """How many images have how many regions; failed ones left out."""
    without = filters.model_copy(update={"min_regions": None, "max_regions": None})
    counts = [0] * (MANY_REGIONS + 1)
    if without.any:
        where, values = where_clause(without)
        for row in index.rows(
            f"SELECT least(num_regions, {MANY_REGIONS}) AS bin, count(*) AS number FROM images "
            f"WHERE status <> 'failed' AND {where} GROUP BY 1",
            values,
        ):
            counts[row["bin"]] = row["number"]
    else:
        counts = list(index.stats.regions_per_image)
    least, most = filters.min_regions, filters.max_regions
    end = max((n for n, number in enumerate(counts) if number), default=0)
    bars = []
    for value, number in enumerate(counts[: end + 1]):
        many = value == MANY_REGIONS
        passes = (least is None or value >= least or many) and (most is None or value <= most)
        name = f"{value}+" if many else str(value)
        bars.append(Bar(name, number, value, None if many else value, passes))
    return Chart("Regions per image", "image", "min_regions", "max_regions", tuple(bars))


def tag_counts(index: Index, filters: Filters) -> list[tuple[str, int]]:
    """The tags that most regions have, of those that pass in images that pass."""
    if not filters.any:
        return list(index.stats.top_tags[:_NUM_TAGS])
    where, values = region_clause(filters, of_tags=False)
    rows: list[dict[str, Any]] = index.rows(
        f"SELECT tag_id, count(*) AS number FROM regions WHERE {where} GROUP BY 1 "
        "ORDER BY number DESC, tag_id LIMIT ?",
        [*values, _NUM_TAGS],
    )
    return [(index.tag_names[row["tag_id"]], row["number"]) for row in rows]
