"""The marks of a review in training: which samples and regions, and under which tags."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.review.events import Event, new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from pad_pipeline.train.data.sample_file import TrainingSamples, write_samples
from pad_pipeline.train.data.sample_sources import source_digest
from pad_pipeline.train.run.folder import check_review
from tests.dataset.example import ellipse, record, region, write_dataset

RECORDS = [
    record(
        number,
        [region("dog", ellipse(10, 10, 5, 5)), region("cat", ellipse(25, 15, 5, 5))],
        image_id=f"{number}.png",
    )
    for number in range(3)
]
REJECTED = ReviewChoice(without_rejected=True)


def mark(log: ReviewLog, kind: str, value: str, number: int, place: int | None = None) -> Event:
    of = {}
    if place is not None:
        of = {"region": place, "digest": region_digest(RECORDS[number].labels[place])}
    event = new_event(kind, "anna", image=f"{number}.png", value=value, **of)
    log.write(event)
    return event


@pytest.fixture
def data(tmp_path: Path) -> str:
    url = write_dataset(tmp_path / "data", RECORDS)
    log = ReviewLog(f"{url}/_review.jsonl")
    mark(log, "verdict", "rejected", 0)
    mark(log, "verdict", "rejected", 1, 0)
    mark(log, "tag", "lynx", 1, 1)
    mark(log, "verdict", "accepted", 2, 1)
    return url


def tags_of(path: Path) -> dict[str, list[str]]:
    samples = TrainingSamples(path)
    return {samples[n].id: samples[n].tags for n in range(len(samples))}


@pytest.mark.parametrize(
    ("choice", "expected", "num_left_out"),
    [
        (None, {f"{n}.png": ["dog", "cat"] for n in range(3)}, 0),
        (REJECTED, {"1.png": ["lynx"], "2.png": ["dog", "cat"]}, 1),
        (ReviewChoice(only_accepted=True), {"2.png": ["cat"]}, 2),
    ],
)
def test_stage_one_trains_on_what_the_marks_leave(
    data: str, tmp_path: Path, choice, expected, num_left_out: int
) -> None:
    path = tmp_path / "samples.arrow"
    number, left_out = write_samples(data, None, "pretrain", path, review=choice)
    assert number == len(expected)
    assert tags_of(path) == expected
    assert left_out.counts["that are rejected or not accepted in the review"] == num_left_out


def test_stage_two_takes_the_regions_that_the_marks_leave(data: str, tmp_path: Path) -> None:
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}]
    entries = [{"image": f"{number}.png", "conversations": talk} for number in range(3)]
    source = tmp_path / "talks.json"
    source.write_text(json.dumps(entries))
    path = tmp_path / "samples.arrow"
    write_samples(str(source), str(tmp_path), "finetune", path, regions=data, review=REJECTED)
    assert tags_of(path) == {"0.png": [], "1.png": ["lynx"], "2.png": ["dog", "cat"]}


def test_a_run_knows_that_marks_were_set_since(data: str) -> None:
    plain, before = source_digest(data, None), source_digest(data, None, REJECTED)
    assert source_digest(data, None, ReviewChoice()) == plain != before
    mark(ReviewLog(f"{data}/_review.jsonl"), "verdict", "flagged", 2)
    assert source_digest(data, None) == plain
    assert source_digest(data, None, REJECTED) != before


def test_marks_without_a_data_set_or_one_file_for_two_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="marks are on regions of data sets"):
        check_review(REJECTED, "talks.json", None)
    with pytest.raises(UserError, match="names one file for 2 data sets"):
        check_review(ReviewChoice(review="mine.jsonl"), ("a", "b", "talks.json"), None)
    check_review(ReviewChoice(review="mine.jsonl"), ("a", "talks.json"), None)
    check_review(REJECTED, ("a", "b"), None)
    check_review(ReviewChoice(), "talks.json", None)
    write_dataset(tmp_path / "data", RECORDS)
    with pytest.raises(UserError, match="there is no review at"):
        source_digest(str(tmp_path / "data"), None, REJECTED)
