"""Selections of regions by score, area, predicted IoU and tag."""

from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.dataset.known_names import warn_about_unknown_names
from pad_pipeline.dataset.reader import open_dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from pad_pipeline.records import Region, Tag, records_to_table, table_to_records
from tests.dataset.example import example_records, failed, record, write_dataset


def regions(*rows: tuple[str, float, int, float]) -> list[Region]:
    return [Region(tag, score, (0, 0, 9, 9), "1", area, iou) for tag, score, area, iou in rows]


ALL = record(
    0,
    regions(("apple", 0.9, 100, 0.9), ("boat", 0.3, 10, 0.95), ("tree", 0.6, 1000, -0.01)),
    tags=(Tag("apple", 0.9), Tag("boat", 0.8), Tag("tree", 0.7), Tag("sky", 0.6)),
)


@pytest.mark.parametrize(
    ("select", "left"),
    [
        (Selection(), ["apple", "boat", "tree"]),
        (Selection(min_score=0.6), ["apple", "tree"]),
        (Selection(min_area=100), ["apple", "tree"]),
        (Selection(max_area=100), ["apple", "boat"]),
        (Selection(min_area=11, max_area=999), ["apple"]),
        (Selection(min_predicted_iou=0.92), ["boat"]),
        (Selection(tags=("boat", "sky")), ["boat"]),
        (Selection(exclude_tags=("boat", "sky")), ["apple", "tree"]),
        (Selection(min_score=0.95), []),
    ],
)
def test_regions_that_pass_stay_in_order(select, left):
    chosen = select.apply(ALL)
    assert [region.tag for region in chosen.labels] == left
    assert chosen.status == ("ok" if left else "empty")
    assert set(chosen.labels) <= set(ALL.labels)


def test_tags_without_a_region_follow_the_tag_choice_only():
    names = lambda select: [tag.tag for tag in select.apply(ALL).tags]  # noqa: E731
    assert names(Selection(tags=("sky",))) == ["sky"]
    assert names(Selection(exclude_tags=("boat",))) == ["apple", "tree", "sky"]
    assert names(Selection(min_score=0.95)) == ["apple", "boat", "tree", "sky"]


@pytest.mark.parametrize("score", [0.1, 0.25, 0.3, 0.7, 0.9])
def test_a_threshold_passes_the_same_score_read_from_disk(score):
    stored = table_to_records(records_to_table([record(0, regions(("a", score, 1, score)))]))[0]
    chosen = Selection(min_score=score, min_predicted_iou=score).apply(stored)
    assert len(chosen.labels) == 1
    above = float(np.nextafter(np.float32(score), np.float32(1)))
    assert not Selection(min_score=above).apply(stored).labels


def test_status_is_judged_after_the_regions():
    only_ok = Selection(min_score=0.95, status=("ok",))
    assert only_ok.keeps(ALL)
    assert not only_ok.keeps(only_ok.apply(ALL))
    assert Selection(status=("failed",)).keeps(failed(1))


def test_failed_images_stay_failed():
    assert Selection(min_score=0.5).apply(failed(1)) == failed(1)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"min_score": 1.5}, "min_score must lie between 0 and 1, not 1.5"),
        ({"min_predicted_iou": -1}, "min_predicted_iou must lie between 0 and 1"),
        ({"min_area": 5, "max_area": 4}, "max_area=4 is below min_area=5"),
        ({"tags": ("a", "b"), "exclude_tags": ("b",)}, "both selected and excluded: b"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        Selection(**fields)


def test_tags_that_nothing_has_are_told(tmp_path, caplog: pytest.LogCaptureFixture) -> None:
    url = write_dataset(tmp_path / "data", example_records())
    known = {tag.tag for record in example_records() for tag in record.tags}
    warn_about_unknown_names(open_dataset(url), None)
    warn_about_unknown_names(open_dataset(url), Selection(tags=tuple(known)))
    assert not caplog.messages
    select = Selection(tags=(min(known), "aple"), exclude_tags=("tabel",))
    warn_about_unknown_names(open_dataset(url), select)
    assert caplog.messages == [f"nothing in {url} has the tags 'aple', 'tabel'"]
    export(url, str(tmp_path / "out.json"), "coco", Selection(tags=("aple",)))
    assert caplog.messages[1:] == [f"nothing in {url} has the tag 'aple'"]
