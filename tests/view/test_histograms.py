"""Histograms of what filters leave, against counting the records one by one."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from starlette.testclient import TestClient

from pad_pipeline.dataset.stats import AREA_FRACTION_EDGES, SCORE_EDGES
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.histograms import image_chart, region_charts, tag_counts
from pad_pipeline.view.queries import Index
from pad_pipeline.view.source import DataSet
from tests.dataset.example import HEIGHT, WIDTH, ellipse, record, region, write_dataset
from tests.view.html import page


@pytest.fixture(scope="module")
def records() -> list[PadRecord]:
    make = np.random.default_rng(5)
    return [
        record(
            number,
            [
                region(
                    "abc"[make.integers(3)], ellipse(20, 15, *make.integers(1, 15, 2)), score, iou
                )
                for score, iou in make.choice([0.05, 0.3, 0.55, 0.7, 1.0], (make.integers(5), 2))
            ],
            caption="red" if number % 3 else "blue",
        )
        for number in range(60)
    ]


@pytest.fixture(scope="module")
def index(records: list[PadRecord], tmp_path_factory: pytest.TempPathFactory) -> Index:
    folder = tmp_path_factory.mktemp("histograms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAD_CACHE", str(folder / "cache"))
        return DataSet(write_dataset(folder / "data", records)).index


def passes(one: Region, filters: Filters) -> bool:
    share = one.area / (WIDTH * HEIGHT)
    return all(
        (low is None or np.float32(value) >= np.float32(low))
        and (high is None or np.float32(value) < np.float32(high))
        for value, low, high in (
            (one.score, filters.min_score, filters.max_score),
            (one.predicted_iou, filters.min_iou, filters.max_iou),
            (share, filters.min_share, filters.max_share),
        )
    ) and (filters.min_area is None or one.area >= filters.min_area)


def chosen(records: list[PadRecord], filters: Filters) -> list[PadRecord]:
    return [
        one
        for one in records
        if all(word in (one.caption or "") for word in filters.q.split())
        and (filters.min_regions is None or len(one.labels) >= filters.min_regions)
        and (filters.max_regions is None or len(one.labels) <= filters.max_regions)
        and all(
            any(label.tag == tag and passes(label, filters) for label in one.labels)
            for tag in filters.tag
        )
        and (
            filters.tag
            or all(getattr(filters, n) is None for n in LIMITS)
            or any(passes(label, filters) for label in one.labels)
        )
    ]


LIMITS = (*("min_score", "max_score", "min_area", "min_iou", "max_iou", "min_share", "max_share"),)
FILTERS = (
    Filters(),
    Filters(tag=("a",)),
    Filters(tag=("a", "b"), min_score=0.3),
    Filters(q="red", min_iou=0.3, max_iou=0.7),
    Filters(min_share=0.1, max_share=0.3, min_regions=2),
    Filters(max_score=0.55, min_area=30, max_regions=3),
)


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_bars_count_the_regions_that_pass(
    records: list[PadRecord], index: Index, filters: Filters
) -> None:
    columns = (
        ("score", SCORE_EDGES, lambda one: one.score),
        ("iou", SCORE_EDGES, lambda one: one.predicted_iou),
        ("share", AREA_FRACTION_EDGES, lambda one: one.area / (WIDTH * HEIGHT)),
    )
    for chart, (name, edges, value) in zip(region_charts(index, filters), columns, strict=True):
        without = filters.model_copy(update={f"min_{name}": None, f"max_{name}": None})
        values = [
            np.float32(value(label))
            for one in chosen(records, without)
            for label in one.labels
            if passes(label, without) and (not filters.tag or label.tag in filters.tag)
        ]
        expected = [
            sum(
                np.float32(low) <= v and (v < np.float32(high) or high == edges[-1]) for v in values
            )
            for low, high in pairwise(edges)
        ]
        assert [bar.number for bar in chart.bars] == expected, name
    per_image = Counter(
        len(one.labels)
        for one in chosen(
            records, filters.model_copy(update={"min_regions": None, "max_regions": None})
        )
    )
    assert {bar.name: bar.number for bar in image_chart(index, filters).bars if bar.number} == {
        str(number): count for number, count in per_image.items()
    }
    tags = Counter(
        label.tag
        for one in chosen(records, filters)
        for label in one.labels
        if passes(label, filters)
    )
    assert dict(tag_counts(index, filters)) == tags


def test_a_bar_is_the_filter_of_its_images(records: list[PadRecord], index: Index) -> None:
    filters = Filters(tag=("a",), min_iou=0.3)
    for chart in region_charts(index, filters):
        for bar in chart.bars:
            narrowed = filters.model_copy(update={chart.low: bar.low, chart.high: bar.high})
            if chart.low != "min_iou":  # that one would be widened
                assert index.count(narrowed) == len(chosen(records, narrowed))
                assert (index.count(narrowed) > 0) == (bar.number > 0)


def test_pages_have_the_bars_as_links(client: TestClient) -> None:
    found = page(client, "/histograms?tag=apple")
    assert "/?tag=apple&min_score=0.9&max_score=0.95" in found.all("a", "href")
    assert "/?tag=apple&min_score=0.95" in found.all("a", "href")
    shown = page(client, "/?min_score=0.9&max_score=0.95&max_share=0.3")
    assert "1–1 of 1" in shown.text
    assert "score below 0.95" in shown.text
    assert "area below 0.3 of the image" in shown.text
    links = page(client, "/stats").all("a", "href")
    assert "/?min_score=0.9" in links
    assert "/?min_share=0.1&max_share=0.3" in links
    assert "/?min_regions=2&max_regions=2" in links
