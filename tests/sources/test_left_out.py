"""Nothing is left out of a source silently, and data sets below it are no part of it."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from pad_pipeline import storage
from pad_pipeline.images import formats
from pad_pipeline.sources import left_out, list_source, read_many
from pad_pipeline.sources.left_out import LeftOut
from pad_pipeline.sources.rows import split_uri
from tests.sources.samples import image, listed, tarred, write, zipped

OTHERS = {
    "b.jfif": image(1),
    "c.jpe": image(2),
    "d.xyz": b"?",
    "e.XYZ": b"?",
    "noext": b"?",
    "labels.txt": b"?",
    ".hidden.jpg": b"?",
    "._a.jpg": b"?",
    ".DS_Store": b"?",
    "Thumbs.db": b"?",
}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "pad_pipeline")
    return caplog


def test_lists_beside_images_and_files_beside_tars_are_counted(root: str, log) -> None:
    write(root, {"images/a.jpg": image(), "images/metadata.jsonl": b'{"file_name": "a.jpg"}'})
    assert [row.image_id for row in list_source(storage.join(root, "images"))] == ["a.jpg"]
    assert log.messages[-1].endswith(": 1 .jsonl")
    shards = {"0.tar": tarred([("a.jpg", image())]), "0.parquet": b"of img2dataset"}
    write(storage.join(root, "shards"), {**shards, "0.zip": b"?", "0.arrow": b"?"})
    assert [row.image_id for row in list_source(storage.join(root, "shards"))] == ["0/a.jpg"]
    assert log.messages[-1].endswith(": 1 .parquet, 1 .arrow, 1 .zip")


def test_a_folder_says_once_what_it_leaves_out(root: str, log) -> None:
    write(root, {"a.jpg": image(), **OTHERS})
    assert [row.image_id for row in list_source(root)] == ["a.jpg", "b.jfif", "c.jpe"]
    lines = [r.getMessage() for r in log.records if "left out" in r.getMessage()]
    assert len(lines) == 1
    assert lines[0].endswith(": 2 .xyz, 1 .txt, 1 without an ending, 1 hidden")


def test_archives_say_it_too(root: str, log) -> None:
    files = {"a.jpg": image(), "pics/b.heic.part": b"?", "__MACOSX/._a.jpg": b"?", "c.md": b"?"}
    write(root, {"x.zip": zipped(files)})
    assert [row.image_id for row in listed(storage.join(root, "x.zip"))] == ["a.jpg"]
    assert "x.zip: 1 .part, 1 .md" in log.text
    members = [("1.jpg", image()), ("1.txt", b"c"), ("1.json", b"{}"), ("1.flac", b"?")]
    write(root, {"x.tar": tarred(members)})
    assert [row.image_id for row in listed(storage.join(root, "x.tar"))] == ["x/1.jpg"]
    assert "x.tar: 1 .flac" in log.text


def test_where_nothing_is_left_out_nothing_is_said(root: str, log) -> None:
    write(root, {"a.jpg": image()})
    listed(root)
    assert "left out" not in log.text


def test_an_image_that_a_package_would_read_names_the_package(monkeypatch) -> None:
    heif = next(form for form in formats.FORMATS if form.name == "HEIF")
    monkeypatch.setattr(left_out, "OPTIONAL_SUFFIXES", {".heic": heif})
    found = LeftOut()
    found.add("IMG_1.HEIC")
    assert found.sentence() == (
        "1 .heic (pillow-heif reads them: pip install 'pad-pipeline[heif]')"
    )


def test_many_endings_are_summed_up() -> None:
    found = LeftOut()
    for number in range(12):
        for _ in range(20 - number):
            found.add(f"x.e{number}")
    assert found.sentence() == (
        "20 .e0, 19 .e1, 18 .e2, 17 .e3, 16 .e4, 15 .e5, 14 .e6, 13 .e7, 42 with other endings"
    )


MANIFEST = json.dumps({"format": "pad", "schema_version": 1, "shards": []}).encode()


@pytest.mark.parametrize("state", ["finished", "running", "not yet a manifest"])
def test_a_data_set_below_the_source_is_no_part_of_it(root: str, log, state: str) -> None:
    write(root, {"a.jpg": image(), "z/b.jpg": image(1)})
    below = {
        "out/pad-00000.parquet": b"PAR1",
        "out/pictures/a.png": image(2),
        "out/_manifest.json": MANIFEST,
        "out/_run/images.parquet": b"PAR1",
    }
    if state == "finished":
        del below["out/_run/images.parquet"]
    if state == "not yet a manifest":
        del below["out/_manifest.json"]
    write(root, below)
    assert [row.image_id for row in listed(root)] == ["a.jpg", "z/b.jpg"]
    assert "1 data sets of this program" in log.text


def test_somebody_elses_manifest_is_an_ordinary_file(root: str) -> None:
    write(root, {"sub/a.jpg": image(), "sub/_manifest.json": b'{"tool": "other"}'})
    assert [row.image_id for row in listed(root)] == ["sub/a.jpg"]


def test_windows_separators_in_a_zip_and_in_a_list(tmp_path: Path) -> None:
    files = {"images\\00000\\a.jpg": image(), "images\\00000\\b.jpg": image(1)}
    write(str(tmp_path), {"images.zip": zipped(files)})
    assert [row.image_id for row in listed(f"{tmp_path}/images.zip")] == [
        "images/00000/a.jpg",
        "images/00000/b.jpg",
    ]
    entries = [{"image": "00000/a.jpg"}, {"image": "00000\\b.jpg"}]
    (tmp_path / "x.json").write_text(json.dumps(entries))
    rows = listed(f"{tmp_path}/x.json")
    assert [row.image_id for row in rows] == ["00000/a.jpg", "00000/b.jpg"]
    assert read_many(rows) == list(files.values())


def test_windows_separators_of_files_in_a_folder(root: str) -> None:
    write(root, {"images/a.jpg": image(), "x.json": b'[{"image": "images\\\\a.jpg"}]'})
    [row] = listed(storage.join(root, "x.json"))
    assert row.image_id == "images/a.jpg"
    assert row.uri.endswith("images/a.jpg")


def test_two_members_that_separators_make_one_stay_two(tmp_path: Path) -> None:
    files = {"p\\a.jpg": image(), "p/a.jpg": image(1)}
    write(str(tmp_path), {"images.zip": zipped(files)})
    (tmp_path / "x.json").write_text(json.dumps([{"image": "p/a.jpg"}]))
    [row] = listed(f"{tmp_path}/x.json")
    assert (split_uri(row.uri) or ())[1] == "p/a.jpg"
