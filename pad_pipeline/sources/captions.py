"""Captions from a separate file, matched to images by their id."""

from __future__ import annotations

import json
import logging
import posixpath
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import ConversationError, image_paths
from pad_pipeline.sources.entries import (
    ID_KEYS,
    PATH_KEYS,
    as_captions,
    captions_of,
    first_of,
    is_json_lines,
    read_json_lines,
)
from pad_pipeline.sources.json_stream import read_json_array
from pad_pipeline.sources.rows import ManifestRow, captioned, relative_id

logger = logging.getLogger(__name__)


def with_captions(rows: Iterator[ManifestRow], url: str) -> Iterator[ManifestRow]:
    """The rows with the captions of the file `url` where it has one for the row's id, or for the id
    without its ending.

    Images without a caption and captions without an image are counted in one log line; raises
    `UserError` after the last row where not a single caption fits.
    """
    captions = read_captions(url)
    num_rows = num_used = 0
    example = ""
    for row in rows:
        num_rows += 1
        stem = posixpath.splitext(row.image_id)[0]
        caption = captions.get(row.image_id, captions.get(stem))
        if caption is None:
            example = example or row.image_id
            yield row
        else:
            num_used += 1
            yield replace(row, **captioned(caption))
    if num_rows and not num_used:
        key = next(iter(captions), None)
        raise UserError(
            f"none of the {len(captions):,} captions in {url} names an image of the source: "
            f"captions are for names like {key!r}, images are called like {example!r}"
        )
    logger.info(
        "captions from %s: %d images have one, %d do not; %d captions have no image",
        url,
        num_used,
        num_rows - num_used,
        len(captions) - num_used,
    )


def read_captions(url: str) -> dict[str, tuple[str, ...]]:
    """Image id -> captions from LLaVA's JSON, a JSON mapping, a JSON list of entries or JSONL.

    The key of an entry is its image's path, else its id; those of several entries follow each
    other. Raises `UserError` for a missing or damaged file.
    """
    if not storage.exists(url):
        raise UserError(f"no such captions file: {url}")
    captions: dict[str, tuple[str, ...]] = {}
    for key, found in _pairs(url):
        if isinstance(key, str | int) and found and str(key).strip("/."):
            name = relative_id(str(key))
            captions[name] = captions.get(name, ()) + found
    if not captions:
        raise UserError(
            f"no captions in {url}: expected LLaVA's list, a mapping of image path to caption, or "
            f"entries with one of {PATH_KEYS} and a caption"
        )
    return captions


def _pairs(url: str) -> Iterator[tuple[Any, tuple[str, ...]]]:
    if not url.lower().endswith((".jsonl", ".ndjson", ".json")):
        raise UserError(f"expected captions as .json or .jsonl, found {url}")
    if is_json_lines(url):
        entries: Iterator[Any] = (value for _, _, value in read_json_lines(url))
    else:
        with storage.open_read(url) as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        if head.startswith(b"{"):
            yield from _mapping(url)
            return
        entries = read_json_array(url)
    for entry in entries:
        if isinstance(entry, dict):
            yield _key(entry), captions_of(entry)


def _key(entry: dict[str, Any]) -> Any:
    """What names the image of an entry: its path, else its id."""
    try:
        if paths := image_paths(entry, (*PATH_KEYS, "images")):
            return paths[0]
    except ConversationError:
        pass
    return first_of(entry, PATH_KEYS + ID_KEYS)


def _mapping(url: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    try:
        mapping = json.loads(storage.read_bytes(url).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{url} is damaged: {error}") from error
    if isinstance(mapping.get("images"), list) and isinstance(mapping.get("annotations"), list):
        yield from _coco(mapping)
        return
    for key, value in mapping.items():
        yield key, as_captions(value)


def _coco(content: dict[str, Any]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """COCO's captions (`captions_val2017.json`) by file name, in the order of the annotations."""
    names = {
        image.get("id"): image.get("file_name")
        for image in content["images"]
        if isinstance(image, dict)
    }
    for annotation in content["annotations"]:
        name = names.get(annotation.get("image_id")) if isinstance(annotation, dict) else None
        if isinstance(name, str):
            yield name, as_captions(annotation.get("caption"))
