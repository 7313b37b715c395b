"""WebDataset shards."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.export import webdataset
from pad_pipeline.export.formats import export
from pad_pipeline.export.options import ExportOptions
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    example_records,
    write_dataset,
    write_images,
)


def test_webdataset_holds_the_images_and_their_records(url, tmp_path, monkeypatch):
    monkeypatch.setattr(webdataset, "SAMPLES_PER_SHARD", 4)
    images = write_images(tmp_path / "images", example_records())
    report = export(
        url,
        str(tmp_path / "tars"),
        "webdataset",
        options=ExportOptions(images=str(tmp_path / "images")),
    )
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
    places = (0, 1, 3, 4, 5, 6)  # in the data set, where the failed image is the third
    assert stems == [f"{number:09d}-{number // 3:05d}-{number:08d}" for number in places]
    rows = [json.loads(files[f"{stem}.json"]) for stem in stems]
    assert [row["image_id"] for row in rows] == list(images)
    assert [files[f"{stem}.png"] for stem in stems] == list(images.values())
    assert rows[0]["size"] == [WIDTH, HEIGHT]
    assert rows[0]["labels"][1]["predicted_iou"] == 0.5
    [tag] = rows[1]["tags"]
    assert (tag["tag"], tag["score"], tag["origin"]) == ("cloud", 0.75, "model")


def test_webdataset_is_the_same_bytes_again(url, tmp_path):
    write_images(tmp_path / "images", example_records())
    for name in ("a", "b"):
        export(
            url,
            str(tmp_path / name),
            "webdataset",
            options=ExportOptions(images=str(tmp_path / "images")),
        )
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
        export(
            url, str(tmp_path / "tars"), "webdataset", options=ExportOptions(images=str(tmp_path))
        )
    assert {path.name for path in tmp_path.iterdir()} == {"set"}
