"""The commands around a data set: `export`, `validate`, `stats` and `render`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from PIL import Image

from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog
from tests.cli import place as cli_place
from tests.cli.runner import call
from tests.dataset.example import example_records, write_dataset


def test_an_altered_data_set_is_not_valid(here: Path, capfd) -> None:
    outcome = call(capfd, "validate", "altered")
    assert (outcome.code, outcome.err) == (1, "")
    assert "problem: pad-00001.parquet" in outcome.out
    assert "NOT valid" in outcome.out.splitlines()[-1]


@pytest.mark.parametrize("format", ["pad-json", "coco", "llava", "webdataset"])
def test_every_format_is_exported_once(here: Path, tmp_path: Path, capfd, format: str) -> None:
    words = ("export", "sound", tmp_path / "out", "--format", format, "--images", "photos")
    outcome = call(capfd, *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert re.match(rf"wrote \d images with \d regions to \S+ \({format}\)\n", outcome.out)
    assert "left out: 1 image (failed)" in outcome.out
    before = cli_place.files(tmp_path)
    assert "already exists" in call(capfd, *words).sentence
    assert cli_place.files(tmp_path) == before


def test_what_is_exported_can_be_imported(here: Path, tmp_path: Path, capfd) -> None:
    assert call(capfd, "export", "sound", tmp_path / "x.json", "--format", "coco").code == 0
    words = ("import", tmp_path / "x.json", tmp_path / "set", "--format", "coco")
    outcome = call(capfd, *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == (
        f"wrote 6 images, 2 of them without regions, with 6 regions to {tmp_path / 'set'}\n"
    )
    assert call(capfd, "validate", tmp_path / "set").code == 0
    assert "already exists" in call(capfd, *words).sentence
    content = json.loads((tmp_path / "x.json").read_text())
    del content["annotations"][0]["segmentation"]
    (tmp_path / "y.json").write_text(json.dumps(content))
    outcome = call(capfd, "import", tmp_path / "y.json", tmp_path / "b", "--format", "coco")
    assert "left out: boxes without a mask: 1 (00000/00000000.png)" in outcome.out


def test_the_formats_of_imports_are_those_of_the_library() -> None:
    from pad_pipeline.cli.dataset import import_labels
    from pad_pipeline.importer.formats import FORMATS

    assert get_args(get_type_hints(import_labels)["format"]) == tuple(FORMATS)


def test_a_selection_reaches_the_export(here: Path, tmp_path: Path, capfd) -> None:
    words = ("export", "sound", tmp_path / "out", "--format", "coco", "--min-score", 0.6)
    outcome = call(capfd, *words, "--exclude-tags", "apple")
    assert outcome.code == 0
    found = json.loads((tmp_path / "out").read_text())
    names = {kind["id"]: kind["name"] for kind in found["categories"]}
    assert sorted(names[one["category_id"]] for one in found["annotations"]) == [
        *("tree", "tree", "çay — bardağı"),
    ]


def test_statistics_come_as_text_json_and_a_picture(here: Path, tmp_path: Path, capfd) -> None:
    words = ("--json", tmp_path / "stats.json", "--png", tmp_path / "stats.png")
    outcome = call(capfd, "stats", "sound", *words)
    assert (outcome.code, outcome.err) == (0, "")
    assert "images   7" in outcome.out
    assert json.loads((tmp_path / "stats.json").read_text())
    assert Image.open(tmp_path / "stats.png").size == (1920, 1080)


def test_pictures_are_drawn(here: Path, tmp_path: Path, capfd) -> None:
    words = ("render", "sound", tmp_path / "out", "--images", "photos", "--limit", 2)
    outcome = call(capfd, *words)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("drew 2 images into")
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) == 2


def test_an_export_says_what_its_parts_and_the_review_left_of_the_images(
    tmp_path: Path, capfd
) -> None:
    records = example_records()
    data = write_dataset(tmp_path / "data", records)
    for record, number in ((records[0], 0), (records[4], 1)):
        mark = {"region": number, "digest": region_digest(record.labels[number])}
        event = new_event("verdict", "a", image=record.image_id, value="rejected", **mark)
        ReviewLog(f"{data}/_review.jsonl").write(event)
    words = ("export", data, tmp_path / "out", "--format", "coco", "--without-rejected")
    outcome = call(capfd, *words, "--split", "train=0.5,val=0.5")
    parts = re.search(r"^train: (\d) images?; val: (\d) images?$", outcome.out, re.MULTILINE)
    assert parts is not None
    assert int(parts[1]) + int(parts[2]) == 6
    assert "wrote 6 images with 4 regions" in outcome.out
    assert "left out: 2 regions (rejected or not accepted)" in outcome.out
