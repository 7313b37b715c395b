"""The index: the same figures as a reading of all records, kept up with what is written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, Tag, records_to_table
from pad_pipeline.view.filters import DESCENDING, SORTS, Filters
from pad_pipeline.view.index import build, scan
from pad_pipeline.view.source import DataSet
from tests.dataset.example import ellipse, example_records, failed, record, region, write_dataset

TAGS = ("apple", "boat", "cloud", "dog", "elm", "fig")


def many_records(number: int = 150) -> list[PadRecord]:
    """Records with every kind of difference, the same every time."""
    make = np.random.default_rng(3)
    found = []
    for index in range(number):
        if index % 17 == 5:
            found.append(failed(index))
            continue
        labels = [
            region(
                str(make.choice(TAGS)),
                ellipse(make.uniform(8, 30), make.uniform(8, 22), *make.uniform(2, 8, 2)),
                score=round(float(make.random()), 2),
                predicted_iou=round(float(make.uniform(0.4, 1)), 2),
            )
            for _ in range(make.poisson(2))
        ]
        image_tags = [Tag(str(tag), 0.7) for tag in make.choice(TAGS, 2, replace=False)]
        if index % 5 == 0:  # found by the tagger, and named by the caption
            image_tags.append(Tag(image_tags[0].tag, 1.0, "captions", 0, 2, 5))
        caption = f"{make.choice(['Red', 'blue'])} {make.choice(['car', 'boat'])} {index % 7}"
        changes = {"tags": tuple(image_tags), "caption": caption if index % 11 else None}
        found.append(record(index, labels, **changes))
    return found


def passes(one: PadRecord, filters: Filters) -> bool:
    """The filters as a plain Python condition."""

    def is_wanted(label, tag: str | None) -> bool:
        return (
            (tag is None or label.tag == tag)
            and label.score >= np.float32(filters.min_score or -1)
            and label.area >= (filters.min_area or 0)
            and label.predicted_iou >= np.float32(filters.min_iou or -1)
        )

    if filters.tag and filters.boxed == "no":
        tagged, detected = ({item.tag for item in items} for items in (one.tags, one.labels))
        if not set(filters.tag) <= tagged - detected:
            return False
    elif filters.tag or any((filters.min_score, filters.min_area, filters.min_iou)):
        for tag in filters.tag or (None,):
            if not any(is_wanted(label, tag) for label in one.labels):
                return False
    words = (one.caption or "").lower()
    least, most = filters.min_regions or 0, filters.max_regions
    return (
        (not filters.status or one.status == filters.status)
        and all(word in words for word in filters.q.lower().split())
        and filters.image in one.image_id
        and least <= len(one.labels) <= (10**9 if most is None else most)
    )


FILTERS = (
    Filters(),
    Filters(tag=("apple",)),
    Filters(tag=("apple", "dog")),
    Filters(tag=("apple",), min_score=0.7),
    Filters(tag=("fig",), boxed="no"),
    Filters(tag=("nothing",)),
    Filters(status="failed"),
    Filters(status="empty"),
    Filters(min_score=0.9),
    Filters(min_area=60, min_iou=0.8),
    Filters(q="RED car"),
    Filters(q="ca bo"),
    Filters(image="00003/"),
    Filters(min_regions=2, max_regions=3),
    Filters(max_regions=0),
    Filters(tag=("boat",), min_score=0.2, q="blue", min_regions=1),
)


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> tuple[DataSet, list[PadRecord]]:
    folder = tmp_path_factory.mktemp("many")
    write_dataset(folder / "data", many_records(), rows_per_shard=40)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAD_CACHE", str(folder / "cache"))
        data = DataSet(str(folder / "data"))
    return data, list(iter_records(open_dataset(str(folder / "data"))))


def test_the_statistics_are_those_of_a_reading_of_all_records(many) -> None:
    data, _ = many
    stats = compute_stats(data.url)
    for field in dataclasses.fields(stats):
        assert getattr(data.index.stats, field.name) == getattr(stats, field.name), field.name


@pytest.mark.parametrize("filters", FILTERS, ids=str)
def test_filters_pass_the_same_images_as_in_python(many, filters: Filters) -> None:
    data, records = many
    expected = [one.image_id for one in records if passes(one, filters)]
    found = [row["image_id"] for row in data.index.images(filters, 1000, 0)]
    assert found == expected
    assert data.index.count(filters) == len(expected)
    if filters.any:
        assert len(expected) < len(records)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("reverse", [False, True])
def test_pages_in_every_order_hold_every_image_once(many, sort: str, reverse: bool) -> None:
    data, records = many
    filters = Filters(sort=sort, reverse=reverse)
    paged = [row for at in range(0, 160, 16) for row in data.index.images(filters, 16, at)]
    assert [row["image_id"] for row in paged] == [
        row["image_id"] for row in data.index.images(filters, 1000, 0)
    ]
    assert sorted(row["image_id"] for row in paged) == sorted(one.image_id for one in records)
    key = {"score": "max_score", "area": "max_area", "regions": "num_regions"}.get(sort)
    if key:
        values = [-1 if row[key] is None else row[key] for row in paged]
        assert values == sorted(values, reverse=(sort in DESCENDING) != reverse)
    if sort == "caption":
        words = [(row["caption"] or "").lower() for row in paged]
        assert words == sorted(words, reverse=reverse)


@pytest.mark.parametrize(
    "filters", [Filters(), Filters(sort="score"), Filters(tag=("apple",), sort="caption")], ids=str
)
def test_neighbours_walk_through_the_whole_list(many, filters: Filters) -> None:
    data, _ = many
    rows = data.index.images(filters, 1000, 0)
    ids = [None, *(row["image_id"] for row in rows), None]
    for number, row in list(enumerate(rows, 1))[:: max(1, len(rows) // 12)]:
        found = data.index.neighbours(filters, row["position"])
        assert (found.previous, found.next) == (ids[number - 1], ids[number + 1])
        assert (found.number, found.total) == (number, len(rows))


def test_cooccurring_tags_are_counted_by_image(many) -> None:
    data, records = many
    row = data.index.tag("apple")
    with_apple = [one for one in records if any(label.tag == "apple" for label in one.labels)]
    assert row["num_images"] == len(with_apple)
    [found] = data.index.cooccurring_tags([row["tag_id"]]).values()
    expected = {
        tag: sum(any(label.tag == tag for label in one.labels) for one in with_apple)
        for tag in TAGS
        if tag != "apple"
    }
    assert {other["tag"]: other["num_images"] for other in found} == expected
    assert [other["num_images"] for other in found] == sorted(expected.values(), reverse=True)


def test_a_record_is_read_from_its_shard_with_masks(many) -> None:
    data, records = many
    for row in data.index.images(Filters(), 200, 0)[::13]:
        assert data.record_of(row) == records[row["position"]]


def test_an_index_is_made_once_and_again_when_a_shard_changes(data: Path, cache: Path) -> None:
    first = build(scan(str(data)))
    assert build(scan(str(data))) == first
    write_dataset(data, example_records()[:4])
    second = build(scan(str(data)))
    assert second != first
    assert [path.name for path in cache.rglob("*.duckdb")] == [second.name]


def test_shards_that_a_run_adds_are_indexed_too(data: Path) -> None:
    whole = json.loads((data / "_manifest.json").read_text())
    (data / "_manifest.json").write_text(json.dumps({**whole, "state": "running", "shards": []}))
    last = data.parent / "pad-00002.parquet"
    shutil.move(data / last.name, last)
    found = DataSet(str(data))
    assert found.is_growing
    assert found.index.stats.num_images == 6
    shutil.move(last, data)
    (data / "_manifest.json").write_text(json.dumps(whole))
    found.update()
    assert not found.is_growing
    assert found.index.stats == compute_stats(str(data))


def test_what_a_run_has_finished_of_a_shard_is_shown_already(tmp_path: Path) -> None:
    records = example_records()
    data = Path(write_dataset(tmp_path / "data", records[:3], state="running", num_images=7))
    manifest = json.loads((data / "_manifest.json").read_text())
    (data / "_manifest.json").write_text(json.dumps({**manifest, "rows_per_shard": 3}))
    parts = data / "_run/progress/00001"
    parts.mkdir(parents=True)
    table = records_to_table(records[3:5])
    chunk = pa.field("chunk", pa.int64(), nullable=False)
    part = table.append_column(chunk, pa.array([1, 1], pa.int64()))
    pq.write_table(part, parts / "00000001-abcd.parquet")
    found = DataSet(str(data))
    assert found.index.stats.num_images == 5
    row = found.index.find(records[4].image_id)
    assert len(found.record_of(row).labels) == 2
    # The run goes on: the part becomes a shard.
    pq.write_table(records_to_table(records[3:6]), data / "pad-00001.parquet")
    shutil.rmtree(data / "_run")
    found.update()
    assert found.index.stats.num_images == 6
    assert len(found.index.images(Filters(), 10, 0)) == 6


def test_a_damaged_shard_is_named_and_the_rest_is_there(data: Path) -> None:
    shard = data / "pad-00001.parquet"
    shard.write_bytes(shard.read_bytes()[:-100])
    found = DataSet(str(data))
    assert list(found.index.problems) == ["pad-00001.parquet"]
    assert [row["image_id"][-5:] for row in found.index.images(Filters(), 10, 0)] == [
        *("0.png", "1.png", "2.png", "6.png"),
    ]


def test_a_shard_of_other_columns_and_a_missing_one_are_named(data: Path) -> None:
    pq.write_table(pa.table({"x": [1]}), data / "pad-00000.parquet")
    (data / "pad-00002.parquet").unlink()
    found = DataSet(str(data))
    assert "lacks" in found.index.problems["pad-00000.parquet"]
    assert "not there" in found.index.problems["pad-00002.parquet"]
    assert found.index.stats.num_images == 3


def test_a_cache_that_cannot_be_written_is_one_sentence(data: Path, monkeypatch) -> None:
    (data.parent / "file").write_text("")
    monkeypatch.setenv("PAD_CACHE", str(data.parent / "file"))
    with pytest.raises(UserError, match="cannot write the viewer's index to"):
        build(scan(str(data)))
