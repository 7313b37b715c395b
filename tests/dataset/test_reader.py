"""Opening, streaming and searching data sets, whole, growing and damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline.dataset import reader
from pad_pipeline.dataset.reader import find_record, iter_batches, iter_records, open_dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.dataset.validate import validate
from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from tests.dataset.example import example_records, write_dataset


def test_a_data_set_of_the_first_version_is_read_validated_and_exported(tmp_path):
    new = write_dataset(tmp_path / "new", example_records())
    old = write_dataset(tmp_path / "old", example_records(), schema_version=1)
    assert list(iter_records(open_dataset(old))) == list(iter_records(open_dataset(new)))
    assert next(iter_records(open_dataset(old), masks=False)).labels[0].rle_mask == ""
    assert validate(old).ok
    assert compute_stats(old).num_regions == 6
    for name in ("pad-json", "coco", "llava"):
        export(old, str(tmp_path / f"old-{name}"), name)
        export(new, str(tmp_path / f"new-{name}"), name)
        texts = [(tmp_path / f"{age}-{name}").read_text() for age in ("old", "new")]
        assert texts[0] == texts[1]


def test_a_shard_of_another_version_than_the_manifest_is_a_problem(tmp_path):
    url = write_dataset(tmp_path / "set", example_records(), schema_version=1)
    set_manifest(tmp_path / "set", schema_version=2)
    report = validate(url)
    assert report.num_problems == {"schema": 3}
    assert "has the columns of version 1, where the manifest says 2" in report.problems[0].message


def test_records_come_back_in_order(tmp_path):
    records = example_records()
    dataset = open_dataset(write_dataset(tmp_path / "set", records))
    assert dataset.num_rows == 7
    assert dataset.state == "finished"
    assert [(shard.name, shard.num_rows) for shard in dataset.shards] == [
        ("pad-00000.parquet", 3),
        ("pad-00001.parquet", 3),
        ("pad-00002.parquet", 1),
    ]
    read = list(iter_records(dataset))
    assert [one.image_id for one in read] == [one.image_id for one in records]
    # Scores are float32 on disk, everything else is as it was.
    assert [[r.rle_mask for r in one.labels] for one in read] == [
        [r.rle_mask for r in one.labels] for one in records
    ]
    assert read[2] == records[2]
    assert read[0].labels[0].score == pytest.approx(0.9)


def test_without_masks_all_else_is_there(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "set", example_records()))
    whole = list(iter_records(dataset))
    light = list(iter_records(dataset, masks=False))
    assert any(one.labels for one in whole)
    assert light == [
        replace(one, labels=tuple(replace(region, rle_mask="") for region in one.labels))
        for one in whole
    ]


def test_nested_columns_can_be_read_alone(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "set", example_records()))
    batches = [b for _, b in iter_batches(dataset, ["image_id", "labels.list.element.tag"])]
    tags = [r["tag"] for b in batches for row in b.to_pylist() for r in row["labels"]]
    assert tags == ["apple", "sail boat", "apple", "tree", "tree", "çay — bardağı"]
    assert batches[0].to_pylist()[0]["labels"][0] == {"tag": "apple"}


def test_a_selection_is_applied_while_reading(tmp_path):
    dataset = open_dataset(write_dataset(tmp_path / "set", example_records()))
    chosen = list(iter_records(dataset, Selection(tags=("apple",), status=("ok",))))
    assert [one.image_id[-6:] for one in chosen] == ["00.png", "03.png"]
    assert [len(one.labels) for one in chosen] == [1, 1]


def test_a_record_is_found_by_id(tmp_path, monkeypatch):
    monkeypatch.setattr(reader, "_BATCH_ROWS", 2)
    records = example_records()
    url = write_dataset(tmp_path / "set", records)
    for wanted in records:
        found = find_record(url, wanted.image_id)
        assert found is not None
        assert (found.image_id, found.caption) == (wanted.image_id, wanted.caption)
    assert find_record(open_dataset(url), "no such image") is None


def test_a_running_data_set_is_read_as_far_as_it_is(tmp_path):
    url = write_dataset(tmp_path / "set", example_records(), state="running", num_images=100)
    (tmp_path / "set" / "pad-00002.parquet").unlink()
    (tmp_path / "set" / "_run").mkdir()
    dataset = open_dataset(url)
    assert (dataset.state, dataset.num_rows) == ("running", 6)


def test_shards_alone_are_a_data_set_of_unknown_state(tmp_path):
    url = write_dataset(tmp_path / "set", example_records())
    (tmp_path / "set" / "_manifest.json").unlink()
    assert open_dataset(url).state == "unknown"


def test_a_data_set_in_an_object_store(tmp_path):
    write_dataset(tmp_path / "set", example_records())
    memory = fsspec.filesystem("memory")
    memory.put(str(tmp_path / "set"), "/bucket/", recursive=True)
    try:
        dataset = open_dataset("memory://bucket/set")
        assert dataset.num_rows == 7
        assert len(list(iter_records(dataset))) == 7
    finally:
        memory.rm("/bucket", recursive=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: [p.unlink() for p in s.iterdir()], "is not a data set of PAD records"),
        (lambda s: (s / "pad-00001.parquet").unlink(), "names pad-00001.parquet, which is not"),
        (lambda s: (s / "_manifest.json").write_text("{"), "not valid JSON"),
        (lambda s: (s / "_manifest.json").write_text("[]"), "not the manifest of a PAD"),
        (lambda s: set_manifest(s, schema_version=4), "schema version 4"),
        (lambda s: cut(s / "pad-00001.parquet", 300), "pad-00001.parquet is damaged"),
        (
            lambda s: pq.write_table(pa.table({"image_id": ["a"]}), s / "pad-00001.parquet"),
            "pad-00001.parquet is not a shard of PAD records: it lacks caption",
        ),
    ],
)
def test_what_is_no_data_set_is_refused_by_name(tmp_path, damage, message):
    url = write_dataset(tmp_path / "set", example_records())
    damage(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        open_dataset(url)


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="nothing is there"):
        open_dataset(str(tmp_path / "absent"))


def test_a_shard_damaged_in_the_middle_is_named_when_it_is_reached(tmp_path):
    url = write_dataset(tmp_path / "set", example_records())
    path = tmp_path / "set" / "pad-00001.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = b"\xff" * 196  # the first pages; footer and magic stay
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"pad-00001\.parquet is damaged"):
        list(iter_records(open_dataset(url)))


def set_manifest(folder: Path, **changes) -> None:
    path = folder / "_manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
