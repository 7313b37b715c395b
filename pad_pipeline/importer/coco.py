"""COCO's JSON, read with memory for one image at a time: instances, and captions among them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import UserError, short_line
from pad_pipeline.given import GivenRegion
from pad_pipeline.importer.labelled import (
    NOT_READ,
    TOO_FEW_POINTS,
    LabelledImage,
    Labels,
    captions_in,
    folder_of,
    stated_size,
)
from pad_pipeline.sources.boxes import Problems, coco_region
from pad_pipeline.sources.entries import as_captions
from pad_pipeline.sources.json_stream import read_json_members
from pad_pipeline.sources.rows import relative_id

_NUM_SAMPLED = 20
_TABLES = """
CREATE TABLE images (number INTEGER PRIMARY KEY, id TEXT UNIQUE, body TEXT);
CREATE TABLE annotations (number INTEGER PRIMARY KEY, image TEXT, body TEXT);
"""


def read_coco(source: str, images: str | None, problems: Problems) -> Labels:
    """The images of a COCO file in its order, `file_name` as their ids.

    Regions are the annotations with a box, captions those with a `caption` and the image's own
    `caption`. Crowds, and annotations that cannot be read or belong to no image, are left out.
    Raises `UserError` where the file is damaged or names no image.
    """
    del images
    database = sqlite3.connect("")  # on disk where it grows, and gone when it is closed
    database.executescript(_TABLES)
    categories: dict[Any, str] = {}
    for name, value in read_json_members(source):
        if name == "images":
            _add_image(database, value, problems)
        elif name == "annotations":
            row = (_key(value, "image_id"), json.dumps(value))
            database.execute("INSERT INTO annotations (image, body) VALUES (?, ?)", row)
        elif name == "categories":
            try:
                categories[value["id"]] = str(value["name"])
            except (KeyError, TypeError) as error:
                raise UserError(
                    f"{source}: a category should have id and name, found {str(value)[:80]}"
                ) from error
    [(number,)] = database.execute("SELECT count(*) FROM images")
    if not number:
        raise UserError(
            f"{source} names no image: COCO's JSON has a list of images, each with id and file_name"
        )
    database.execute("CREATE INDEX of_image ON annotations (image)")
    unknown = "SELECT image FROM annotations WHERE image NOT IN (SELECT id FROM images)"
    for (image,) in database.execute(unknown):
        problems.add("annotations of images that the file does not list", image)
    return Labels(number, _images(database, source, categories, problems))


def _key(value: Any, name: str) -> str:
    return json.dumps(value.get(name) if isinstance(value, Mapping) else None)


def _add_image(database: sqlite3.Connection, image: Any, problems: Problems) -> None:
    name = image.get("file_name") if isinstance(image, Mapping) else None
    if not isinstance(name, str) or "id" not in image:
        problems.add("images without a file_name or id", str(image)[:40])
        return
    try:
        row = (_key(image, "id"), json.dumps(image))
        database.execute("INSERT INTO images (id, body) VALUES (?, ?)", row)
    except sqlite3.IntegrityError:
        problems.add("images whose number another one has", name)


def _images(
    database: sqlite3.Connection, source: str, categories: Mapping[Any, str], problems: Problems
) -> Iterator[LabelledImage]:
    rows = database.execute("SELECT id, body FROM images ORDER BY number")
    first = [(number, json.loads(body)) for number, body in islice(rows, _NUM_SAMPLED)]
    folder = folder_of(source, (image["file_name"] for _, image in first))
    yield from (_image(database, *row, folder, categories, problems) for row in first)
    for number, body in rows:
        yield _image(database, number, json.loads(body), folder, categories, problems)
    database.close()


def _image(
    database: sqlite3.Connection,
    number: str,
    image: Mapping[str, Any],
    folder: str,
    categories: Mapping[Any, str],
    problems: Problems,
) -> LabelledImage:
    name = relative_id(image["file_name"])
    captions = captions_in(image)
    size = _size(image, name, problems)
    regions: list[GivenRegion] = []
    of_image = "SELECT body FROM annotations WHERE image = ? ORDER BY number"
    for (body,) in database.execute(of_image, (number,)):
        annotation = json.loads(body)
        captions += as_captions(annotation.get("caption"))
        if "bbox" not in annotation and "caption" in annotation:
            continue
        if annotation.get("iscrowd"):
            problems.add("regions of a crowd", name)
            continue
        try:
            region = coco_region(annotation, categories, size, name)
        except (UserError, KeyError, TypeError, ValueError, AttributeError) as error:
            what = f"category {error}" if isinstance(error, KeyError) else short_line(error)
            problems.add(NOT_READ, f"{name}: annotation {annotation.get('id')}, {what}")
            continue
        shape = annotation.get("segmentation")
        if isinstance(shape, list) and len(shape) > len(region.polygons):
            problems.add(TOO_FEW_POINTS, name)
        regions.append(region)
    uri = storage.join(folder, image["file_name"])
    return LabelledImage(name, uri, size, tuple(regions), captions)


def _size(image: Mapping[str, Any], name: str, problems: Problems) -> tuple[int, int] | None:
    if image.get("width") is None:
        return None
    try:
        return stated_size(image["width"], image["height"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        problems.add("sizes that are none", f"{name}: {short_line(error)}")
        return None
