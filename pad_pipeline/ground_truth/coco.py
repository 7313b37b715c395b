"""Reads COCO's instances JSON: which objects are in which image, with boxes and perhaps masks."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from pycocotools import mask as coco_mask

from pad_pipeline import masks, storage
from pad_pipeline.errors import UserError, one_line

MISTAKES = (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError)
"""What reading a file raises that is not COCO's instances JSON."""


@dataclass(frozen=True, slots=True)
class TrueObject:
    """One annotation: its category, (x, y, width, height) and area in pixels, and its mask.

    `segmentation` is as COCO has it: polygons, or run lengths in either form; None without a mask.
    A crowd is no object to find: regions that fall into it count neither for nor against.
    """

    category: int
    bbox_xywh: tuple[float, float, float, float]
    area: float
    is_crowd: bool
    segmentation: Any

    @property
    def bbox(self) -> tuple[float, float, float, float]:
        """(x0, y0, x1, y1) in pixels."""
        x, y, width, height = self.bbox_xywh
        return x, y, x + width, y + height


@dataclass(frozen=True, slots=True)
class TrueImage:
    """One image of the file, with its size in pixels where that is stated, and its objects."""

    file_name: str
    size: tuple[int, int] | None
    objects: tuple[TrueObject, ...]


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The content of a file. `images` are in the order of their numbers there, `names` the
    categories' by number; with `has_masks` every object has one."""

    url: str
    images: tuple[TrueImage, ...]
    names: dict[int, str]
    has_masks: bool

    @property
    def num_objects(self) -> int:
        """Of all images, crowds as well."""
        return sum(len(image.objects) for image in self.images)


def read_coco(url: str) -> GroundTruth:
    """Raises `UserError` where the file is not COCO's instances JSON."""
    try:
        whole = json.loads(storage.read_bytes(url))
        names = {int(each["id"]): str(each["name"]) for each in whole["categories"]}
        by_number: dict[int, list[TrueObject]] = {int(each["id"]): [] for each in whole["images"]}
        if len(by_number) != len(whole["images"]) or len(names) != len(whole["categories"]):
            raise ValueError("two images or two categories have the same id")
        if not by_number or not names:
            raise ValueError("it has no images or no categories")
        for each in whole["annotations"]:
            by_number[int(each["image_id"])].append(_object(each, names))
        images = tuple(
            TrueImage(str(each["file_name"]), _size(each), tuple(by_number[int(each["id"])]))
            for each in sorted(whole["images"], key=lambda each: int(each["id"]))
        )
    except MISTAKES as error:
        raise UserError(
            f"{url} should be COCO's instances JSON with images, annotations and categories "
            f"({type(error).__name__}: {one_line(error)[:200]})"
        ) from error
    objects = [each for image in images for each in image.objects]
    return GroundTruth(url, images, names, all(each.segmentation is not None for each in objects))


def _object(each: dict[str, Any], names: dict[int, str]) -> TrueObject:
    x, y, width, height = (float(value) for value in each["bbox"])
    if not all(map(math.isfinite, (x, y, width, height))):
        raise ValueError("a box is not of finite numbers")
    category = int(each["category_id"])
    if category not in names:
        raise ValueError(f"an annotation is of the category {category}, which is not listed")
    return TrueObject(
        category,
        (x, y, width, height),
        float(each.get("area", width * height)),
        bool(each.get("iscrowd", 0)),
        each.get("segmentation") or None,
    )


def _size(image: dict[str, Any]) -> tuple[int, int] | None:
    if "width" not in image or "height" not in image:
        return None
    return int(image["width"]), int(image["height"])


def object_mask(found: TrueObject, width: int, height: int) -> str:
    """The object's mask in an image of this size, as COCO's compressed `counts`.

    Raises `ValueError` where it has none or the mask does not fit the image.
    """
    shape = found.segmentation
    if isinstance(shape, list):
        if not all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in shape):
            raise ValueError("a polygon has fewer than three points")
        points: Any = [[float(value) for value in polygon] for polygon in shape]
        whole: Any = coco_mask.merge(coco_mask.frPyObjects(points, height, width))
        return whole["counts"].decode("ascii")
    if not isinstance(shape, dict) or list(shape.get("size", ())) != [height, width]:
        raise ValueError(f"the mask is not of an image of {width}x{height} pixels")
    counts = shape["counts"]
    if isinstance(counts, list):
        if min(counts, default=0) < 0 or sum(counts) != height * width:
            raise ValueError(f"the runs do not cover an image of {width}x{height} pixels")
        lengths: Any = shape
        return coco_mask.frPyObjects(lengths, height, width)["counts"].decode("ascii")
    masks.area(counts, height, width)  # pycocotools writes past the end of a damaged one
    return counts
