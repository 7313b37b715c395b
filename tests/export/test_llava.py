"""LLaVA's pre-training file."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.export.formats import export
from tests.dataset.example import (
    example_records,
    write_dataset,
)


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
    assert rows[0]["id"] == "00000/00000000.png"
    assert rows[0]["image"] == "00000/00000000.png"
    human, gpt = rows[0]["conversations"]
    assert (human["from"], gpt["from"]) == ("human", "gpt")
    assert human["value"].count("<image>") == 1
    assert gpt["value"] == "picture number 0"


def test_every_caption_has_an_entry_with_an_id_of_its_own(tmp_path):
    first, second, third = example_records()[:2] + example_records()[4:5]
    records = [
        replace(first, image_id="cat.jpg", caption="a cat", captions=("a cat", "it sleeps")),
        replace(second, image_id="cat.jpg#2", caption="no", captions=("no", "yes")),
        replace(third, image_id="cat.png", caption="a dog"),
    ]
    report = export(write_dataset(tmp_path / "data", records), str(tmp_path / "x.json"), "llava")
    rows = json.loads((tmp_path / "x.json").read_text())
    assert [(row["id"], row["image"], row["conversations"][1]["value"]) for row in rows] == [
        ("cat.jpg", "cat.jpg", "a cat"),
        ("cat.jpg#2", "cat.jpg", "it sleeps"),
        ("cat.jpg#2#1", "cat.jpg#2", "no"),
        ("cat.jpg#2#2", "cat.jpg#2", "yes"),
        ("cat.png", "cat.png", "a dog"),
    ]
    assert report.num_images == 3
