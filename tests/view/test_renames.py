"""The index with renamed tags: the same figures as a reading of all records under the review."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.records import PadRecord
from pad_pipeline.review.choice import ReviewChoice, Reviewed
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.filters import SORTS, Filters
from pad_pipeline.view.server import open_viewer
from pad_pipeline.view.viewer import Viewer
from tests.dataset.example import example_records, write_dataset
from tests.view.conftest import open_client
from tests.view.html import page
from tests.view.test_index import TAGS, many_records, passes

FIRST = example_records()[0]


def rename(log: ReviewLog, record: PadRecord, number: int, tag: str | None) -> str:
    digest = region_digest(record.labels[number])
    event = new_event("tag", "anna", image=record.image_id, region=number, digest=digest, value=tag)
    log.write(event)
    return event.id


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Viewer, list[PadRecord]]:
    """A viewer of many records, and these as the review has them."""
    place = tmp_path_factory.mktemp("renames")
    folder = write_dataset(place / "data", many_records(), rows_per_shard=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAD_CACHE", str(place / "cache"))
        viewer = open_viewer(folder)
    with_regions = [one for one in iter_records(open_dataset(folder)) if one.labels]
    for place, record in enumerate(with_regions[::4]):
        for number in range(len(record.labels)):
            # A new name, one that is there, a phrase of the caption, or the region's own.
            names = ("yacht", "apple", record.tags[-1].tag, record.labels[number].tag)
            rename(viewer.review, record, number, names[(place + number) % 4])
    viewer.index_marks()
    review = Reviewed(folder, ReviewChoice(review=viewer.review.url))
    applied = [review.apply(one) for one in iter_records(open_dataset(folder))]
    return viewer, [one[0] for one in applied if one is not None]


def test_the_statistics_are_those_of_stats_with_the_review(many) -> None:
    viewer, _ = many
    url = viewer.data.url
    stats = compute_stats(url, review=ReviewChoice(review=viewer.review.url))
    assert "yacht" in dict(stats.top_tags)
    for field in dataclasses.fields(stats):
        assert getattr(viewer.data.index.stats, field.name) == getattr(stats, field.name)
    assert stats.top_tags != compute_stats(url).top_tags


@pytest.mark.parametrize(
    "filters",
    [
        Filters(tag=("yacht",)),
        Filters(tag=("apple", "yacht")),
        Filters(tag=("dog",), min_score=0.4),
        Filters(tag=("yacht",), boxed="no"),
        Filters(tag=("fig",), boxed="no"),
        Filters(tag=("elm",), q="blue", min_regions=2),
    ],
    ids=str,
)
def test_filters_go_by_the_new_tags(many, filters: Filters) -> None:
    viewer, records = many
    expected = [one.image_id for one in records if passes(one, filters)]
    found = [row["image_id"] for row in viewer.data.index.images(filters, 1000, 0)]
    assert found == expected
    assert viewer.data.index.count(filters) == len(expected)


@pytest.mark.parametrize("sort", SORTS)
def test_every_order_holds_every_image_once(many, sort: str) -> None:
    viewer, records = many
    rows = viewer.data.index.images(Filters(sort=sort), 1000, 0)
    assert sorted(row["image_id"] for row in rows) == sorted(one.image_id for one in records)
    if sort == "tag":
        best = {
            one.image_id: max(one.labels, key=lambda label: label.score).tag
            for one in records
            if one.labels
        }
        tags = [best[row["image_id"]] for row in rows if row["image_id"] in best]
        assert tags == sorted(tags)


def test_tags_are_counted_with_their_company(many) -> None:
    viewer, records = many
    index = viewer.data.index
    for tag in (*TAGS, "yacht"):
        own = [one for one in records if any(label.tag == tag for label in one.labels)]
        row = index.tag(tag)
        assert row is not None
        assert row["num_images"] == len(own)
        scores = [label.score for one in own for label in one.labels if label.tag == tag]
        assert row["num_regions"] == len(scores)
        assert row["mean_score"] == pytest.approx(sum(scores) / len(scores))
        [found] = index.cooccurring_tags([row["tag_id"]]).values()
        expected = {
            other: sum(any(label.tag == other for label in one.labels) for one in own)
            for other in (*TAGS, "yacht")
            if other != tag
        }
        assert {each["tag"]: each["num_images"] for each in found} == {
            other: number for other, number in expected.items() if number
        }


def test_what_is_taken_back_is_as_it_was(data: Path) -> None:
    viewer = open_viewer(str(data))
    before = viewer.data.index.stats
    done = rename(viewer.review, FIRST, 1, "yacht")
    viewer.index_marks()
    assert viewer.data.index.count(Filters(tag=("yacht",))) == 1
    assert viewer.data.index.count(Filters(tag=("sail boat",))) == 0
    viewer.review.write(new_event("undo", "anna", value=done))
    viewer.index_marks()
    assert viewer.data.index.count(Filters(tag=("yacht",))) == 0
    assert viewer.data.index.stats == before


def test_a_mark_of_a_region_that_has_changed_renames_nothing(data: Path) -> None:
    viewer = open_viewer(str(data))
    viewer.review.write(
        new_event("tag", "anna", image=FIRST.image_id, region=0, digest="0" * 16, value="pear")
    )
    before = viewer.data.index.stats
    viewer.index_marks()
    assert viewer.data.index.stats == before


def _rename_over_http(client: TestClient) -> None:
    digest = region_digest(FIRST.labels[1])
    event = {"kind": "tag", "image": FIRST.image_id, "region": 1, "digest": digest}
    assert client.post("/api/review", json={**event, "value": "yacht"}).status_code == 200


def test_pages_go_by_the_new_tags(data: Path) -> None:
    client = open_client(data, images=str(data.parent / "images"))
    assert "yacht" not in page(client, "/stats").text
    _rename_over_http(client)
    for address in ("/", "/stats", "/tags", "/tags?name=yacht", "/crops?tag=yacht"):
        assert "yacht" in page(client, address).text, address
    assert "sail boat" not in page(client, "/stats").text
    assert FIRST.image_id in page(client, "/?tag=yacht").text
    [found] = client.get("/api/records?tag=yacht").json()["records"]
    assert [label["tag"] for label in found["labels"]] == ["apple", "yacht"]
    assert [tag["tag"] for tag in found["tags"]] == ["apple", "yacht"]
    whole = client.get(of_image(FIRST.image_id, "api/record")).json()
    assert [label["tag"] for label in whole["labels"]] == ["apple", "yacht"]


def test_a_browser_asks_again_for_pictures_and_gets_new_ones_after_a_rename(data: Path) -> None:
    client = open_client(data, images=str(data.parent / "images"))
    other = of_image(example_records()[3].image_id, "thumb")
    address = of_image(FIRST.image_id, "layer/1/fill")
    kept = {each: client.get(each) for each in (address, other)}
    for each, first in kept.items():
        assert first.headers["cache-control"] == "private, no-cache"
        again = client.get(each, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    _rename_over_http(client)
    answers = {
        each: client.get(each, headers={"if-none-match": first.headers["etag"]})
        for each, first in kept.items()
    }
    assert answers[address].status_code == 200
    assert answers[address].content != kept[address].content
    assert answers[other].status_code == 304
