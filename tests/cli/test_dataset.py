"""The commands around a data set: `export`, `validate`, `stats` and `render`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from PIL import Image

from tests.cli import place as cli_place
from tests.cli.runner import call


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
