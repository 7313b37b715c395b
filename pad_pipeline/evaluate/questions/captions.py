"""Images with reference captions: COCO's annotations, Karpathy's split, lists of one's own."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.questions.listed import Row, read_rows
from pad_pipeline.evaluate.questions.question import Question, place_images


def read_caption_questions(
    source: str, images: str | None, split: str | None
) -> tuple[list[Question], str | None]:
    """(questions, the split and where it is from), each with its `references`.

    `source` is COCO's captions JSON, Karpathy's dataset_*.json (of which `split` is taken, "test"
    by default), LLaVA's JSON or a list with `image` and `references`. Raises `UserError` where it
    is none of these.
    """
    whole = read_object(source)
    if whole is None:
        _refuse_split(source, split)
        rows = read_rows(source, text="")
        return place_images(source, images, rows), None
    entries = whole.get("images")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{source} has no images; expected COCO's captions or Karpathy's split")
    if "annotations" in whole:
        _refuse_split(source, split)
        return place_images(source, images, _coco(source, whole)), f"the file {source}"
    chosen = split or "test"
    rows = [_karpathy(entry) for entry in entries if entry.get("split") == chosen]
    if not rows:
        there = sorted({str(entry.get("split")) for entry in entries})
        raise UserError(
            f"{source} has no split {chosen!r}, but {', '.join(there)}; choose with ",
            Setting("split"),
        )
    return place_images(source, images, rows), f"{chosen} of Karpathy's {source}"


def read_object(source: str) -> dict[str, Any] | None:
    """The object that a .json file holds; None where it holds a list or lines."""
    if not source.lower().endswith(".json"):
        return None
    with storage.open_read(source) as file:
        head = file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")
    if not head.startswith(b"{"):
        return None
    try:
        value = json.loads(storage.read_bytes(source))
    except ValueError:
        return None  # lines, or damaged: who reads lines says so
    return value if isinstance(value, dict) else None


def _coco(source: str, whole: Mapping[str, Any]) -> list[Row]:
    captions = defaultdict(list)
    for annotation in whole["annotations"]:
        if not isinstance(annotation, dict) or not isinstance(annotation.get("caption"), str):
            raise UserError(
                f"{source} has annotations without a caption; expected COCO's captions_*.json"
            )
        captions[annotation["image_id"]].append(annotation["caption"])
    return [
        (str(entry["id"]), "", str(entry["file_name"]), {"references": captions[entry["id"]]})
        for entry in whole["images"]
        if captions[entry["id"]]
    ]


def _karpathy(entry: Mapping[str, Any]) -> Row:
    folder, name = entry.get("filepath"), str(entry["filename"])
    number = entry.get("cocoid", entry.get("imgid", name))
    references = [sentence["raw"] for sentence in entry["sentences"]]
    return str(number), "", f"{folder}/{name}" if folder else name, {"references": references}


def _refuse_split(source: str, split: str | None) -> None:
    if split is not None:
        raise UserError(f"{source} has no splits; leave out ", Setting("split", split))
