"""Captions from a file of their own, in the forms that people have them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pad_pipeline import storage
from pad_pipeline.sources import list_source
from tests.sources.samples import image, write

FORMS: dict[str, Any] = {
    "a mapping": {"a.jpg": "first", "b.jpg": ["second", "another"]},
    "a list": [{"image": "a.jpg", "caption": "first"}, {"file_name": "b.jpg", "text": "second"}],
    "conversations": [
        {"image": ["a.jpg"], "conversations": [{"from": "gpt", "value": "first"}]},
        {"images": ["b.jpg"], "messages": [{"role": "assistant", "content": "second"}]},
    ],
    "COCO": {
        "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 1, "image_id": 8, "caption": "second"},
            {"id": 2, "image_id": 7, "caption": "first"},
            {"id": 3, "image_id": 7, "caption": "not the first"},
            {"id": 4, "image_id": 9, "caption": "of no image"},
        ],
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_captions(root: str, form: str) -> None:
    write(root, {"p/a.jpg": image(), "p/b.jpg": image(1)})
    write(root, {"captions.json": json.dumps(FORMS[form]).encode()})
    rows = list_source(storage.join(root, "p"), captions=storage.join(root, "captions.json"))
    assert [row.caption for row in rows] == ["first", "second"]


def test_all_captions_of_an_image_are_kept(root: str) -> None:
    """COCO has five for each."""
    write(root, {"p/a.jpg": image(), "p/b.jpg": image(1)})
    for form, expected in (
        ("COCO", [("first", "not the first"), None]),
        ("a mapping", [None, ("second", "another")]),
    ):
        write(root, {"captions.json": json.dumps(FORMS[form]).encode()})
        rows = list_source(storage.join(root, "p"), captions=storage.join(root, "captions.json"))
        assert [row.captions for row in rows] == expected


@pytest.mark.parametrize("name", ["captions.json", "captions.jsonl"])
def test_lines_are_captions_whatever_the_name(root: str, name: str) -> None:
    lines = [json.dumps({"image": f"{n}.jpg", "caption": f"c{n}"}) for n in "ab"]
    write(root, {"p/a.jpg": image(), "p/b.jpg": image(1), name: "\r\n".join(lines).encode()})
    rows = list_source(storage.join(root, "p"), captions=storage.join(root, name))
    assert [row.caption for row in rows] == ["ca", "cb"]
