"""What holds for every export."""

from __future__ import annotations

import io
import json
import tarfile
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints
from xml.etree import ElementTree as ET

import fsspec
import numpy as np
import pyarrow.parquet as pq
import pytest

from pad_pipeline.cli import dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import FORMATS, export
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.records import Tag
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


@pytest.mark.parametrize("format", ["pad-json", "coco", "llava"])
def test_a_selection_reaches_the_export(url, tmp_path, format):
    select = Selection(min_score=0.6, exclude_tags=("tree",), status=("ok",))
    report = export(url, str(tmp_path / "out.json"), format, select)
    assert (report.num_images, report.num_regions) == (2, 2)
    found = json.loads((tmp_path / "out.json").read_text())
    if format == "coco":  # the list of categories does not depend on the selection
        categories = {row["id"]: row["name"] for row in found.pop("categories")}
        assert categories == {1: "apple", 2: "sail boat", 3: "tree", 4: "çay — bardağı"}
        assert {row["category_id"] for row in found["annotations"]} == {1, 4}
    assert "tree" not in json.dumps(found)


def image_names(dest: Path, format: str) -> list[str]:
    """What an export calls its images, without the ending where labels have a file of their own."""
    if format == "webdataset":
        with tarfile.open(dest / "00000.tar") as tar:
            return [member.name.partition(".")[0] for member in tar if "json" not in member.name]
    if format == "hf":
        return pq.read_table(dest / "data/train-00000.parquet").column("image_id").to_pylist()
    if format == "fiftyone":
        samples = json.loads((dest / "samples.json").read_text())["samples"]
        return [sample["filepath"] for sample in samples]
    if format in ("yolo-seg", "voc", "labelme"):
        pattern = {"yolo-seg": "labels/train/*/*", "voc": "Annotations/*/*", "labelme": "*/*.json"}
        return [path.stem for path in dest.glob(pattern[format])]
    text = dest.read_text()
    if format == "cvat":
        return [image.attrib["name"] for image in ET.fromstring(text).iter("image")]
    found = json.loads(text)
    if format == "label-studio":
        return [task["data"]["image"] for task in found]
    key = "id" if format in ("coco", "llava") else "image_id"
    return [row[key] for row in (found["images"] if format == "coco" else found)]


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "grit"])
def test_images_that_differ_in_their_ending_are_two(tmp_path, format):
    phrases = (Tag("cat", 1.0, "captions", 0, 0, 3),)
    records = [
        replace(record(0, tags=phrases), image_id=name)
        for name in ("a/cat.jpg", "a/cat.png", "a/cat")
    ]
    write_images(tmp_path / "images", [replace(one, image_id="x.png") for one in records[:1]])
    for one in records:
        (tmp_path / "images/a").mkdir(exist_ok=True)
        (tmp_path / "images" / one.image_id).write_bytes((tmp_path / "images/x.png").read_bytes())
    url, dest = write_dataset(tmp_path / "set", records), tmp_path / "out"
    images = str(tmp_path / "images") if FORMATS[format].suffix is None else None
    export(url, str(dest), format, options=ExportOptions(images=images))
    names = image_names(dest, format)
    assert len(set(names)) == len(records)


@pytest.mark.parametrize("format", FORMATS)
def test_what_exists_is_not_overwritten(url, tmp_path, format):
    dest = tmp_path / "there"
    dest.write_text("precious")
    with pytest.raises(UserError, match="already exists"):
        export(url, str(dest), format)
    assert dest.read_text() == "precious"


def test_a_failed_export_leaves_nothing(tmp_path):
    broken = replace(region("a", ellipse(9, 9, 5, 5)), bbox=(0.0, 0.0, float("nan"), 1.0))
    url = write_dataset(tmp_path / "set", [record(0), record(1, [broken])])
    with pytest.raises(UserError, match=r"00000/00000001\.png has a box or score"):
        export(url, str(tmp_path / "pad.json"), "pad-json")
    assert {path.name for path in tmp_path.iterdir()} == {"set"}


def test_an_unknown_format_is_refused(url, tmp_path):
    with pytest.raises(UserError, match="choose one of pad-json, coco, grounded-captions, llava"):
        export(url, str(tmp_path / "x"), "yolo")


def test_an_export_to_an_object_store(url, tmp_path):
    memory = fsspec.filesystem("memory")
    try:
        export(url, "memory://bucket/pad.json", "pad-json")
        assert len(json.loads(memory.cat_file("/bucket/pad.json"))) == 6
        write_images(tmp_path / "images", example_records())
        options = ExportOptions(images=str(tmp_path / "images"))
        export(url, "memory://bucket/tars", "webdataset", options=options)
        export(url, "memory://bucket/yolo", "yolo-seg", options=options)
        assert memory.cat_file("/bucket/yolo/data.yaml").startswith(b'"train": images/train')
        assert len(memory.find("/bucket/yolo")) == 13
        with tarfile.open(fileobj=io.BytesIO(memory.cat_file("/bucket/tars/00000.tar"))) as tar:
            assert len(tar.getnames()) == 12
        with pytest.raises(UserError, match="already exists"):
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
