"""Marks and thresholds together, in all that reads a data set; what fits nothing is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.render import render
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.export.formats import FORMATS, export
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from tests.dataset.example import example_records, write_dataset, write_images

RECORDS = example_records()
REJECTED = ReviewChoice(without_rejected=True)
"""Seven images: of 0 (apple, sail boat) the apple is rejected and the boat renamed, image 3 is
rejected, of 4 (two trees) the first is accepted."""


def mark(log: ReviewLog, kind: str, value: str, number: int, place: int | None = None) -> None:
    of = {}
    if place is not None:
        of = {"region": place, "digest": region_digest(RECORDS[number].labels[place])}
    log.write(new_event(kind, "anna", image=RECORDS[number].image_id, value=value, **of))


@pytest.fixture
def data(tmp_path: Path) -> str:
    url = write_dataset(tmp_path / "data", RECORDS)
    write_images(tmp_path / "images", RECORDS)
    log = ReviewLog(f"{url}/_review.jsonl")
    mark(log, "verdict", "rejected", 0, 0)
    mark(log, "tag", "yacht", 0, 1)
    mark(log, "verdict", "rejected", 3)
    mark(log, "verdict", "accepted", 4, 0)
    return url


def tags(url: str, select: Selection | None = None, review: ReviewChoice | None = None):
    found = iter_records(open_dataset(url), select, review)
    return {int(r.image_id[-6:-4]): [label.tag for label in r.labels] for r in found}


ALL = {0: ["apple", "sail boat"], 1: [], 2: [], 3: ["apple"], 4: ["tree", "tree"], 5: []} | {
    6: ["çay — bardağı"]
}


@pytest.mark.parametrize(
    ("select", "review", "expected"),
    [
        (None, None, ALL),
        (None, ReviewChoice(), ALL),
        (None, REJECTED, {**{n: ALL[n] for n in (1, 2, 4, 5, 6)}, 0: ["yacht"]}),
        (None, ReviewChoice(only_accepted=True), {4: ["tree"]}),
        (None, ReviewChoice(review="{data}/_review.jsonl"), {**ALL, 0: ["apple", "yacht"]}),
        (Selection(tags=("yacht",), status=("ok",)), REJECTED, {0: ["yacht"]}),
        (Selection(tags=("sail boat",), status=("ok",)), REJECTED, {}),
        (Selection(min_score=0.65, status=("ok",)), REJECTED, {4: ["tree"], 6: ALL[6]}),
    ],
)
def test_marks_come_before_thresholds(data: str, select, review, expected) -> None:
    if review is not None and review.review is not None:
        review = ReviewChoice(review=review.review.format(data=data))
    assert tags(data, select, review) == expected


def test_statistics_and_pictures_follow(data: str, tmp_path: Path) -> None:
    stats = compute_stats(data, review=REJECTED)
    assert dict(stats.top_tags) == {"tree": 2, "yacht": 1, "çay — bardağı": 1}
    assert stats.num_images == 6
    drawn = render(data, str(tmp_path / "out"), str(tmp_path / "images"), review=REJECTED)
    assert drawn.num_images == 5
    assert drawn.left_out["rejected or not accepted"] == 1


@pytest.mark.parametrize("format", sorted(FORMATS.keys() - {"grounded-captions"}))
def test_every_format_has_what_the_marks_leave(data: str, tmp_path: Path, format: str) -> None:
    from pad_pipeline.export.options import ExportOptions

    options = ExportOptions(images=str(tmp_path / "images"))
    select = Selection(status=("ok",))
    report = export(data, str(tmp_path / "out"), format, select, options, REJECTED)
    assert report.left_out["rejected or not accepted"] >= 1
    if format in ("llava", "grit"):  # they count captions and phrases
        return
    assert (report.num_images, report.num_regions) == (3, 4)


def test_numbers_of_coco_stay_and_new_names_come_last(data: str, tmp_path: Path) -> None:
    written = {}
    for name, review in (("all", None), ("some", REJECTED)):
        export(data, str(tmp_path / name), "coco", review=review)
        written[name] = json.loads((tmp_path / name).read_text())
    kinds = {
        name: {one["id"]: one["name"] for one in coco["categories"]}
        for name, coco in written.items()
    }
    assert kinds["some"] == {**kinds["all"], 5: "yacht"}
    boxes = {one["id"]: one["bbox"] for one in written["all"]["annotations"]}
    some = {one["id"]: one for one in written["some"]["annotations"]}
    assert set(some) == {2, 4, 5, 6}
    assert all(one["bbox"] == boxes[number] for number, one in some.items())
    assert some[2]["category_id"] == 5


def test_marks_that_fit_nothing_are_counted_and_named_once(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    log = ReviewLog(f"{data}/_review.jsonl")
    for number in range(4):
        log.write(new_event("verdict", "anna", image=f"gone-{number}", value="rejected"))
    place = {"image": RECORDS[4].image_id, "region": 1, "digest": "0" * 16}
    log.write(new_event("tag", "anna", **place, value="bush"))
    place["region"] = 12
    log.write(new_event("verdict", "anna", **place, value="rejected"))
    caplog.set_level("WARNING", "pad_pipeline")
    export(data, str(tmp_path / "out"), "coco", review=REJECTED)
    changed, absent = [r.getMessage() for r in caplog.records if "not applied" in r.getMessage()]
    assert "2 regions or images that differ from what was marked" in changed
    assert "'region 2 of 00001/00000004.png', 'region 13 of 00001/00000004.png'" in changed
    assert "4 regions or images that" in absent
    assert "'gone-0', 'gone-1', 'gone-2'" in absent
    assert tags(data, review=REJECTED)[4] == ["tree", "tree"]


def test_marks_that_nobody_asked_for_are_mentioned(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pad_pipeline")
    compute_stats(data, review=REJECTED)
    assert caplog.messages == []
    compute_stats(data)
    [line] = caplog.messages
    assert line.startswith(f"the marks of {data}/_review.jsonl are not applied: without_rejected")
