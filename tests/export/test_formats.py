"""Exports read back by the programs and conventions that they are for."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import tracemalloc
from dataclasses import replace
from typing import get_args, get_type_hints

import fsspec
import numpy as np
import pytest
from pycocotools.coco import COCO

from pad_pipeline import masks
from pad_pipeline.cli import dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export import webdataset
from pad_pipeline.export.formats import FORMATS, export
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    ellipse,
    example_records,
    failed,
    record,
    region,
    write_dataset,
    write_images,
)


@pytest.fixture
def url(tmp_path):
    return write_dataset(tmp_path / "set", example_records())


def test_pad_json_is_table_9(url, tmp_path):
    dest = tmp_path / "out" / "pad.json"
    report = export(url, str(dest), "pad-json")
    assert (report.num_images, report.num_regions, report.left_out) == (6, 6, {"failed": 1})
    assert report.state == "finished"
    rows = json.loads(dest.read_text(encoding="utf-8"))
    wanted = [one for one in example_records() if one.status != "failed"]
    assert [row["image_id"] for row in rows] == [one.image_id for one in wanted]
    for row, one in zip(rows, wanted, strict=True):
        assert list(row) == ["image_id", "size", "caption", "labels"]
        assert row["size"] == [WIDTH, HEIGHT]
        assert row["caption"] == (one.caption or "")
        for label, source in zip(row["labels"], one.labels, strict=True):
            assert list(label) == ["tag", "bbox", "rle_mask"]
            assert label["bbox"] == list(source.bbox)
            mask = masks.decode(label["rle_mask"], row["size"][1], row["size"][0])
            assert mask.sum() == source.area
    assert "çay — bardağı" in dest.read_text(encoding="utf-8")


def test_coco_loads_in_pycocotools(url, tmp_path):
    dest = tmp_path / "coco.json"
    report = export(url, str(dest), "coco")
    assert (report.num_images, report.num_regions) == (6, 6)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(dest))
    categories = coco.loadCats(coco.getCatIds())
    assert [(c["id"], c["name"]) for c in categories] == [
        (1, "apple"),
        (2, "sail boat"),
        (3, "tree"),
        (4, "çay — bardağı"),
    ]
    assert sorted(coco.getAnnIds()) == [1, 2, 3, 4, 5, 6]
    by_name = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    for one in example_records():
        if one.status == "failed":
            assert one.image_id not in by_name
            continue
        image = by_name[one.image_id]
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert len(annotations) == len(one.labels)
        for annotation, source in zip(annotations, one.labels, strict=True):
            x, y, w, h = annotation["bbox"]
            assert (x, y, x + w, y + h) == source.bbox
            mask = coco.annToMask(annotation).astype(bool)
            assert (mask == masks.decode(source.rle_mask, HEIGHT, WIDTH)).all()
            assert annotation["area"] == source.area == mask.sum()
            assert annotation["iscrowd"] == 0
            assert annotation["score"] == pytest.approx(source.score)
            assert annotation["predicted_iou"] == source.predicted_iou
            assert coco.cats[annotation["category_id"]]["name"] == source.tag


def test_llava_without_any_caption_is_refused(tmp_path):
    records = [replace(record, caption=None) for record in example_records()]
    url = write_dataset(tmp_path / "data", records)
    with pytest.raises(UserError, match=r"none of the 6 images .* has a caption"):
        export(url, str(tmp_path / "llava.json"), "llava")
    assert not (tmp_path / "llava.json").exists()


def test_llava_has_the_pretraining_form(url, tmp_path):
    dest = tmp_path / "llava.json"
    report = export(url, str(dest), "llava")
    assert (report.num_images, report.left_out) == (5, {"failed": 1, "no caption": 1})
    rows = json.loads(dest.read_text())
    assert len(rows) == 5
    assert rows[0]["id"] == "00000/00000000"
    assert rows[0]["image"] == "00000/00000000.png"
    human, gpt = rows[0]["conversations"]
    assert (human["from"], gpt["from"]) == ("human", "gpt")
    assert human["value"].count("<image>") == 1
    assert gpt["value"] == "picture number 0"


def test_webdataset_holds_the_images_and_their_records(url, tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "SAMPLES_PER_SHARD", 4)
    images = write_images(tmp_path / "images", example_records())
    report = export(url, str(tmp_path / "tars"), "webdataset", images=str(tmp_path / "images"))
    assert (report.num_images, report.num_regions, report.left_out) == (6, 6, {"failed": 1})
    assert sorted(path.name for path in (tmp_path / "tars").iterdir()) == ["00000.tar", "00001.tar"]
    files = {}
    for path in sorted((tmp_path / "tars").iterdir()):
        with tarfile.open(path) as tar:
            for member in tar:
                handle = tar.extractfile(member)
                assert handle is not None
                files[member.name] = handle.read()
    stems = list(dict.fromkeys(name.split(".")[0] for name in files))
    assert stems == [f"{number:09d}" for number in range(6)]
    rows = [json.loads(files[f"{stem}.json"]) for stem in stems]
    assert [row["image_id"] for row in rows] == list(images)
    assert [files[f"{stem}.png"] for stem in stems] == list(images.values())
    assert rows[0]["size"] == [WIDTH, HEIGHT]
    assert rows[0]["labels"][1]["predicted_iou"] == 0.5
    assert rows[1]["tags"] == [{"tag": "cloud", "score": 0.75}]


def test_webdataset_is_the_same_bytes_again(url, tmp_path):
    write_images(tmp_path / "images", example_records())
    for name in ("a", "b"):
        export(url, str(tmp_path / name), "webdataset", images=str(tmp_path / "images"))
    assert (tmp_path / "a/00000.tar").read_bytes() == (tmp_path / "b/00000.tar").read_bytes()


def test_webdataset_reads_images_from_where_they_were_annotated(tmp_path):
    write_images(tmp_path / "images", example_records())
    records = [
        replace(one, uri=str(tmp_path / "images" / one.image_id)) for one in example_records()
    ]
    (tmp_path / "images" / records[0].image_id).unlink()
    url = write_dataset(tmp_path / "set", records)
    report = export(url, str(tmp_path / "tars"), "webdataset")
    assert (report.num_images, report.left_out) == (5, {"failed": 1, "image not readable": 1})


def test_webdataset_without_any_image_says_what_to_do(url, tmp_path):
    with pytest.raises(UserError, match=r"none of the 6 images could be read.*set images to"):
        export(url, str(tmp_path / "tars"), "webdataset", images=str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


@pytest.mark.parametrize("format", ["pad-json", "coco", "llava"])
def test_a_selection_reaches_the_export(url, tmp_path, format):
    select = Selection(min_score=0.6, exclude_tags=("tree",), status=("ok",))
    report = export(url, str(tmp_path / "out.json"), format, select)
    assert (report.num_images, report.num_regions) == (2, 2)
    assert "tree" not in (tmp_path / "out.json").read_text()


@pytest.mark.parametrize("format", FORMATS)
def test_what_exists_is_not_overwritten(url, tmp_path, format):
    dest = tmp_path / "there"
    dest.write_text("precious")
    with pytest.raises(UserError, match="exists already"):
        export(url, str(dest), format)
    assert dest.read_text() == "precious"


def test_a_failed_export_leaves_nothing(tmp_path):
    broken = replace(region("a", ellipse(9, 9, 5, 5)), bbox=(0.0, 0.0, float("nan"), 1.0))
    url = write_dataset(tmp_path / "set", [record(0), record(1, [broken])])
    with pytest.raises(UserError, match=r"00000/00000001\.png has a box or score"):
        export(url, str(tmp_path / "pad.json"), "pad-json")
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_an_unknown_format_is_refused(url, tmp_path):
    with pytest.raises(UserError, match="choose one of pad-json, coco, llava, webdataset"):
        export(url, str(tmp_path / "x"), "yolo")


def test_an_export_to_an_object_store(url, tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        export(url, "memory://bucket/pad.json", "pad-json")
        assert len(json.loads(memory.cat_file("/bucket/pad.json"))) == 6
        write_images(tmp_path / "images", example_records())
        export(url, "memory://bucket/tars", "webdataset", images=str(tmp_path / "images"))
        with tarfile.open(fileobj=io.BytesIO(memory.cat_file("/bucket/tars/00000.tar"))) as tar:
            assert len(tar.getnames()) == 12
        with pytest.raises(UserError, match="exists already"):
            export(url, "memory://bucket/pad.json", "coco")
    finally:
        memory.rm("/bucket", recursive=True)


def test_only_failed_images_make_valid_empty_files(tmp_path):
    url = write_dataset(tmp_path / "set", [failed(0)])
    for format in ("pad-json", "llava"):
        export(url, str(tmp_path / f"{format}.json"), format)
        assert json.loads((tmp_path / f"{format}.json").read_text()) == []
    export(url, str(tmp_path / "coco.json"), "coco")
    assert json.loads((tmp_path / "coco.json").read_text())["categories"] == []


@pytest.mark.parametrize("format", ["pad-json", "coco"])
def test_memory_does_not_grow_with_the_data_set(tmp_path, format):
    random = np.random.default_rng(0)
    noisy = [region("noise", random.random((HEIGHT, WIDTH)) < 0.5) for _ in range(4)]
    peaks = []
    for size in (200, 800):
        records = [record(number, noisy) for number in range(size)]
        url = write_dataset(tmp_path / f"set{size}", records, rows_per_shard=100)
        del records
        export(url, str(tmp_path / f"warm{size}.json"), format)
        tracemalloc.start()
        export(url, str(tmp_path / f"out{size}.json"), format)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 100_000


def test_the_command_offers_every_format():
    choices = get_args(get_type_hints(dataset.export, include_extras=True)["format"])
    assert set(choices) == FORMATS.keys()
