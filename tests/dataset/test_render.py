"""Rendering a data set to picture files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pad_pipeline.dataset.render import picture_name, render
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from tests.dataset.example import example_records, write_dataset, write_images


@pytest.fixture
def url(tmp_path):
    write_images(tmp_path / "images", example_records())
    records = [
        replace(one, uri=str(tmp_path / "images" / one.image_id)) for one in example_records()
    ]
    return write_dataset(tmp_path / "set", records)


def test_every_image_that_did_not_fail_becomes_a_picture(url, tmp_path):
    report = render(url, str(tmp_path / "out"))
    assert (report.num_images, report.num_regions, report.left_out) == (6, 6, {"failed": 1})
    names = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert names == [one.image_id for one in example_records() if one.status != "failed"]
    with Image.open(tmp_path / "out" / names[0]) as picture:
        assert picture.format == "PNG"
        assert picture.size == (640, 480)
        assert picture.mode == "RGB"


def test_limit_and_selection(url, tmp_path):
    report = render(url, str(tmp_path / "out"), limit=2, select=Selection(tags=("apple",)))
    assert (report.num_images, report.num_regions) == (2, 1)


def test_images_that_are_not_what_they_were_are_left_out(url, tmp_path):
    records = example_records()
    Image.new("RGB", (9, 9)).save(tmp_path / "images" / records[0].image_id)
    (tmp_path / "images" / records[1].image_id).write_text("<html>")
    report = render(url, str(tmp_path / "out"))
    assert report.left_out == {"failed": 1, "image changed since": 1, "image not readable": 1}
    assert report.num_images == 4


def test_what_cannot_be_rendered_is_refused(url, tmp_path):
    with pytest.raises(UserError, match="at least 1 image"):
        render(url, str(tmp_path / "out"), limit=0)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="already exists"):
        render(url, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("image_id", "name"),
    [
        ("00000/00000030.jpg", "00000/00000030.jpg"),
        ("a b/ç.PNG", "a b/ç.PNG"),
        ("a/b.webp", "a/b.webp.jpg"),
        ("a/no suffix", "a/no suffix.jpg"),
        ("./a.jpg", "a.jpg"),
    ],
)
def test_safe_names_stay(image_id, name):
    assert picture_name(image_id) == name


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=300))
def test_any_id_gets_a_name_that_any_file_system_takes(image_id):
    name = picture_name(image_id)
    assert not name.startswith("/")
    for part in PurePosixPath(name).parts:
        assert part not in ("", ".", "..")
        assert len(part.encode()) <= 255
        assert not set(part) & set('<>:"|?*\\\x00\n')
        assert part[-1] not in ". "


def test_names_that_had_to_change_stay_apart():
    ids = ["a:b.jpg", "a?b.jpg", "a_b.jpg", "../a.jpg", "..", "", "x" * 300, "x" * 301]
    assert len({picture_name(image_id) for image_id in ids}) == len(ids)
