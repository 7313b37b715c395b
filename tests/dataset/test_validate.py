"""Validation: a sound data set passes, and each kind of damage is found and placed."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline import masks
from pad_pipeline.dataset.findings import MAX_LISTED_PER_KIND
from pad_pipeline.dataset.validate import validate
from pad_pipeline.errors import UserError
from pad_pipeline.records import RecordError, Region, Tag
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    ellipse,
    example_records,
    failed,
    record,
    region,
    write_dataset,
)

SOUND = region("apple", ellipse(12, 10, 8, 7))


def validate_records(tmp_path, records, **manifest):
    return validate(write_dataset(tmp_path / "set", records, **manifest))


def test_a_sound_data_set_passes(tmp_path):
    report = validate_records(tmp_path, example_records())
    assert report.ok
    assert report.problems == ()
    assert report.num_warnings == {}
    assert (report.num_images, report.num_regions, report.num_shards) == (7, 6, 3)
    assert report.images_by_status == {"empty": 2, "failed": 1, "ok": 4}
    assert report.state == "finished"
    assert report.mask_inside_box == 1.0


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"bbox": (5.0, 5.0, float("nan"), 9.0)}, "box", "not finite"),
        ({"bbox": (9.0, 5.0, 5.0, 9.0)}, "box", "not finite with x0 <= x1"),
        ({"bbox": (0.0, 5.0, float("inf"), 9.0)}, "box", "not finite"),
        ({"score": 1.5}, "score", "the score 1.5 is not between 0 and 1"),
        ({"score": float("nan")}, "score", "nan"),
        ({"predicted_iou": float("nan")}, "predicted IoU", "nan"),
        ({"rle_mask": "0S"}, "mask malformed", "cut off"),
        ({"rle_mask": "0 1"}, "mask malformed", "does not occur"),
        ({"rle_mask": "00S1K"}, "mask malformed", "negative"),
        ({"rle_mask": ""}, "mask of another size", "cover 0 pixels, not 40x30"),
        (
            {"rle_mask": masks.encode(np.ones((HEIGHT, WIDTH + 1), bool))},
            "mask of another size",
            "cover 1230 pixels, not 40x30",
        ),
        ({"area": 7}, "area", f"has {SOUND.area} pixels, but its area says 7"),
        ({"rle_mask": masks.encode(np.zeros((HEIGHT, WIDTH), bool))}, "area", "has 0 pixels"),
    ],
)
def test_a_damaged_region_is_a_problem(tmp_path, changes, kind, message):
    damaged = record(4, [SOUND, replace(SOUND, tag="boat", **changes)])
    report = validate_records(tmp_path, [record(0, [SOUND]), record(1), record(2), damaged])
    assert not report.ok
    assert report.num_problems == {kind: 1}
    (problem,) = report.problems
    assert (problem.kind, problem.shard, problem.image_id) == (
        kind,
        "pad-00001.parquet",
        damaged.image_id,
    )
    assert message in problem.message
    assert str(problem).startswith(f"pad-00001.parquet {damaged.image_id}: 'boat': ")


@pytest.mark.parametrize(
    ("damaged", "kind"),
    [
        (record(4, status="ok"), "status"),
        (record(4, [SOUND], status="empty"), "status"),
        (record(4, status="done"), "status"),
        (record(4, status="failed"), "status"),
        (record(4, error=RecordError("tag", "E", "")), "status"),
        (replace(failed(4), error=None), "status"),
        (record(4, width=0), "size"),
        (record(0), "duplicate id"),
    ],
)
def test_a_record_that_contradicts_itself_is_a_problem(tmp_path, damaged, kind):
    records = [record(0, [SOUND]), record(1), record(2), damaged]
    report = validate_records(tmp_path, records)
    assert report.num_problems == {kind: 1}
    assert report.problems[0].image_id == damaged.image_id


def test_a_mask_that_leaks_is_a_warning_only(tmp_path):
    whole = np.ones((HEIGHT, WIDTH), bool)
    leaking = replace(region("sky", whole), bbox=(0.0, 0.0, 10.0, 10.0))
    empty = Region("fog", 0.5, (0.0, 0.0, 9.0, 9.0), masks.encode(~whole), 0, 0.1)
    far = replace(SOUND, bbox=(-9.0, 3.0, 20.0, 17.0))
    near = replace(SOUND, bbox=(3.7, 3.0, 20.0, 17.2))
    report = validate_records(tmp_path, [record(0, [leaking, empty, far, near])])
    assert report.ok
    assert report.num_warnings == {
        "box outside its image": 1,
        "empty mask": 1,
        "mask leaks out of its box": 1,
    }
    # 121 of the 1,200 pixels of the sky, and the apples whole.
    inside = 11 * 11 + 2 * SOUND.area
    assert report.mask_inside_box == pytest.approx(inside / (1200 + 2 * SOUND.area))


def test_a_mask_off_its_box_is_a_warning_and_many_are_a_problem(tmp_path):
    off = replace(SOUND, bbox=(30.0, 20.0, 38.0, 28.0))
    few = [record(0, [off, off]), *(record(number, [SOUND]) for number in range(1, 9))]
    report = validate_records(tmp_path / "few", few)
    assert report.ok
    assert report.num_warnings == {"mask off its box": 2}
    first = report.warnings[0]
    assert (first.kind, first.shard, first.image_id) == (
        "mask off its box",
        "pad-00000.parquet",
        few[0].image_id,
    )
    assert "no pixel" in first.message
    assert str(first).startswith(f"pad-00000.parquet {few[0].image_id}: 'apple': ")
    many = [record(0, [off] * 3), *(record(number, [SOUND]) for number in range(1, 57))]
    assert validate_records(tmp_path / "enough", [*many, record(57, [SOUND])]).ok
    report = validate_records(tmp_path / "many", many)
    assert report.num_problems == {"masks off their boxes": 1}
    assert report.problems[0].message.startswith("3 of 59 masks have no pixel")


def test_many_problems_of_one_kind_do_not_hide_another(tmp_path):
    bad = replace(SOUND, score=2.0)
    records = [record(number, [bad] * 10) for number in range(10)]
    report = validate_records(tmp_path, [*records, replace(failed(10), error=None)])
    assert report.num_problems == {"score": 100, "status": 1}
    assert len(report.problems) == MAX_LISTED_PER_KIND + 1


@pytest.mark.parametrize(
    ("manifest", "kind"),
    [
        ({"num_images": 8}, "row count"),
        ({"num_images": None}, "row count"),
        ({"num_shards": 4}, "manifest"),
        ({"state": "done"}, "manifest"),
        ({"state": "running", "num_images": 6}, "row count"),
        ({"shards": []}, "unknown shard"),
    ],
)
def test_a_manifest_that_does_not_add_up_is_a_problem(tmp_path, manifest, kind):
    report = validate_records(tmp_path, example_records(), **manifest)
    assert kind in report.num_problems


def test_a_running_data_set_may_be_short(tmp_path):
    report = validate_records(
        tmp_path, example_records(), state="running", num_images=99, shards=[]
    )
    assert report.ok
    assert report.state == "running"


def test_files_that_changed_are_named(tmp_path):
    folder = tmp_path / "set"
    url = write_dataset(folder, example_records())
    table = pq.read_table(folder / "pad-00000.parquet")
    pq.write_table(table, folder / "pad-00000.parquet", compression="zstd")
    data = bytearray((folder / "pad-00001.parquet").read_bytes())
    data[4:200] = b"\xff" * 196
    (folder / "pad-00001.parquet").write_bytes(data)
    pq.write_table(pa.table({"image_id": ["x"]}), folder / "pad-00002.parquet")
    report = validate(url)
    found = {(problem.kind, problem.shard) for problem in report.problems}
    assert {
        ("checksum", "pad-00000.parquet"),
        ("checksum", "pad-00001.parquet"),
        ("unreadable shard", "pad-00001.parquet"),
        ("schema", "pad-00002.parquet"),
    } <= found
    assert ("unreadable shard", "pad-00000.parquet") not in found


def test_a_missing_and_an_extra_shard_are_named(tmp_path):
    folder = tmp_path / "set"
    url = write_dataset(folder, example_records())
    (folder / "pad-00001.parquet").rename(folder / "pad-00009.parquet")
    found = {(problem.kind, problem.shard) for problem in validate(url).problems}
    assert ("missing shard", "pad-00001.parquet") in found
    assert ("unknown shard", "pad-00009.parquet") in found


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a data set"):
        validate(str(tmp_path))
    (tmp_path / "_manifest.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(UserError, match="not the manifest"):
        validate(str(tmp_path))


@pytest.mark.parametrize(
    ("place", "is_sound"),
    [
        ((0, 0, 7), True),
        ((1, 8, 9), True),
        ((0, 0, 17), False),
        ((0, 5, 5), False),
        ((0, -1, 5), False),
        ((2, 0, 1), False),
        ((0, None, 1), False),
    ],
)
def test_phrases_lie_in_their_captions(tmp_path, place, is_sound):
    captions = ("picture number 4", "the sky a")
    tags = (Tag("picture", 1.0, "captions", *place), Tag("sky", 0.5))
    one = replace(record(4, tags=tags), caption=captions[0], captions=captions)
    report = validate(write_dataset(tmp_path / "set", [one]))
    assert report.num_problems == ({} if is_sound else {"phrase": 1})
