"""Captions with the regions of their phrases."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from pad_pipeline.records import Tag
from tests.dataset.example import HEIGHT, WIDTH, ellipse, record, region, write_dataset


def phrase(tag: str, caption: str, index: int = 0) -> Tag:
    start = caption.lower().index(tag)
    return Tag(tag, 1.0, "captions", index, start, start + len(tag))


def test_every_phrase_has_its_regions(tmp_path):
    first, second = "Çay: two Apples, a sail boat", "an apple"
    tags = (
        phrase("apples", first),
        phrase("sail boat", first),
        phrase("apple", second, 1),
        Tag("tree", 0.9),
    )
    mask = ellipse(12, 10, 8, 7)
    labels = [region("apples", mask, 0.9), region("tree", mask), region("apples", mask, 0.5)]
    one = replace(record(0, labels, tags=tags), caption=first, captions=(first, second))
    dest = tmp_path / "out.json"
    report = export(
        write_dataset(tmp_path / "set", [one, record(1)]), str(dest), "grounded-captions"
    )
    assert (report.num_images, report.num_regions) == (1, 3)
    assert report.left_out == {"no phrase": 1}
    rows = json.loads(dest.read_text())
    assert [row["caption"] for row in rows] == [first, second]
    assert rows[0]["size"] == [WIDTH, HEIGHT]
    apples, boat = rows[0]["phrases"]
    assert (apples["phrase"], apples["tag"]) == ("Apples", "apples")
    start, end = apples["span"]
    assert first[start:end] == "Apples"
    assert [one["score"] for one in apples["regions"]] == pytest.approx([0.9, 0.5])
    assert apples["regions"][0]["rle_mask"] == labels[0].rle_mask
    assert apples["regions"][0]["bbox"] == list(labels[0].bbox)
    assert (boat["phrase"], boat["regions"]) == ("sail boat", [])


def test_without_phrases_nothing_is_written(tmp_path):
    url = write_dataset(tmp_path / "set", [record(0)])
    with pytest.raises(UserError, match=r"no caption of .* has a phrase .*--tag.from captions"):
        export(url, str(tmp_path / "out.json"), "grounded-captions")
    assert not (tmp_path / "out.json").exists()
