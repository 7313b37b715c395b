"""LabelMe's JSON files: shapes of one image each."""

from __future__ import annotations

import base64
import binascii
import json
import math
import posixpath
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pad_pipeline import masks, storage
from pad_pipeline.errors import UserError, short_line
from pad_pipeline.given import GivenRegion
from pad_pipeline.given_masks import Polygon
from pad_pipeline.images import ImageError, decode_image
from pad_pipeline.importer.labelled import (
    NOT_A_SHAPE,
    NOT_READ,
    TOO_FEW_POINTS,
    LabelledImage,
    Labels,
    captions_in,
    stated_size,
)
from pad_pipeline.sources.boxes import Problems
from pad_pipeline.sources.folder import FoundFile, walk
from pad_pipeline.sources.rows import relative_id

_CIRCLE_POINTS = 64

Point = tuple[float, float]


def read_labelme(source: str, images: str | None, problems: Problems) -> Labels:
    """The images of the JSON files below a folder, or of one file, in the order of their names.

    An image's id is the file's `image_id`, as the export writes it, else the image's path below the
    folder. Polygons, masks and circles of one label and `group_id` are one region, a rectangle is a
    box. Raises `UserError` where no file is there.
    """
    del images
    if storage.is_folder(source):
        files = list(walk(source, lambda name: name.lower().endswith(".json")))
    else:
        files = [FoundFile(source.rpartition("/")[2], source, -1)]
    if not files:
        raise UserError(f"{source} holds no JSON files, as LabelMe writes one for each image")
    return Labels(len(files), _images(files, problems))


def _images(files: list[FoundFile], problems: Problems) -> Iterator[LabelledImage]:
    for file in files:
        try:
            document = json.loads(storage.read_bytes(file.url).decode("utf-8-sig", "replace"))
            shapes, path = document["shapes"], str(document["imagePath"]).replace("\\", "/")
            size = stated_size(document["imageWidth"], document["imageHeight"])
            below = posixpath.join(posixpath.dirname(file.relative), path)
            name = relative_id(str(document.get("image_id") or below))
            regions = tuple(_regions(shapes, size, name, problems))
        except (UserError, ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"no {error}" if isinstance(error, KeyError) else short_line(error)
            problems.add("files that are not LabelMe's", f"{file.relative}: {what}")
            continue
        uri = storage.join(file.url.rpartition("/")[0], path)
        yield LabelledImage(name, uri, size, regions, captions_in(document))


def _regions(
    shapes: list[Mapping[str, Any]], size: tuple[int, int], name: str, problems: Problems
) -> Iterator[GivenRegion]:
    """The regions; shapes of one group come where its first shape stands."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for number, shape in enumerate(shapes):
        kind = shape.get("shape_type", "polygon")
        if kind not in ("polygon", "rectangle", "circle", "mask"):
            problems.add(NOT_A_SHAPE, f"{name}: {kind}")
            continue
        group = shape.get("group_id")
        alone = group is None or kind in ("rectangle", "mask")
        key = number if alone else (str(shape.get("label")), str(group))
        groups.setdefault(key, []).append(shape)
    for members in groups.values():
        try:
            region = _region(members, size, name, problems)
        except (UserError, ValueError, KeyError, TypeError, OSError) as error:
            problems.add(NOT_READ, f"{name}: {short_line(error)}")
            continue
        if region is not None:
            yield region


def _region(
    shapes: list[Mapping[str, Any]], size: tuple[int, int], name: str, problems: Problems
) -> GivenRegion | None:
    tag = str(shapes[0]["label"])
    first = _points(shapes[0])
    kind = shapes[0].get("shape_type", "polygon")
    if kind in ("rectangle", "mask"):
        (x0, y0), (x1, y1) = first
        box = (min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        if kind == "rectangle":
            return GivenRegion(tag, box, image_size=size)
        return _bitmap(tag, shapes[0]["mask"], (int(x0), int(y0)), size)
    loops = [_circle(shape) if _is_circle(shape) else _points(shape) for shape in shapes]
    polygons: tuple[Polygon, ...] = tuple(
        tuple(number for point in loop for number in point) for loop in loops if len(loop) >= 3
    )
    for _ in range(len(loops) - len(polygons)):
        problems.add(TOO_FEW_POINTS, name)
    if not polygons:
        return None
    xs = [x for polygon in polygons for x in polygon[::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    box = (min(xs), min(ys), max(xs), max(ys))
    return GivenRegion(tag, box, polygons=polygons, image_size=size)


def _points(shape: Mapping[str, Any]) -> list[Point]:
    return [(float(x), float(y)) for x, y in shape["points"]]


def _is_circle(shape: Mapping[str, Any]) -> bool:
    return shape.get("shape_type") == "circle"


def _circle(shape: Mapping[str, Any]) -> list[Point]:
    """A circle, given by its centre and a point on it, as a polygon."""
    (x, y), edge = _points(shape)
    radius = math.dist((x, y), edge)
    angles = [2 * math.pi * number / _CIRCLE_POINTS for number in range(_CIRCLE_POINTS)]
    return [(x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles]


def _bitmap(tag: str, encoded: str, corner: tuple[int, int], size: tuple[int, int]) -> GivenRegion:
    """A mask that is kept as a PNG of its own, whose upper left pixel is `corner` of the image."""
    try:
        part = decode_image(base64.b64decode(encoded, validate=True))[..., 0] > 0
    except (binascii.Error, ImageError) as error:
        raise UserError(f"its mask is no picture in base64: {short_line(error)}") from error
    width, height = size
    x, y = corner
    if x < 0 or y < 0 or x + part.shape[1] > width or y + part.shape[0] > height:
        raise UserError("its mask reaches out of the image")
    whole = np.zeros((height, width), dtype=bool)
    whole[y : y + part.shape[0], x : x + part.shape[1]] = part
    counts = masks.encode(whole)
    box = masks.bounding_box(counts, height, width)
    return GivenRegion(tag, box, rle_mask=counts, image_size=size)
