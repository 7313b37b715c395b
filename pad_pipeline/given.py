"""Boxes and masks that a user gives in place of the models': their forms, and their pixels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Literal

from pycocotools import mask as coco_mask

from pad_pipeline import masks
from pad_pipeline.errors import UserError

BoxFormat = Literal["xyxy", "xywh"]
"""The corners (x0, y0, x1, y1), or the upper left corner with width and height, as COCO has it."""

Box = tuple[float, float, float, float]
Polygon = tuple[float, ...]

UNNAMED = "object"
"""The label of a box that has none."""

_BOX_KEYS = ("bbox", "box")
_LABEL_KEYS = ("label", "tag", "category", "name", "class", "text", "phrase")


@dataclass(frozen=True, slots=True)
class GivenRegion:
    """A labelled box, with its mask where there is one.

    `bbox` is (x0, y0, x1, y1) in pixels of the image after EXIF rotation, or in fractions of its
    sides where `is_relative`; so are `polygons`, each x, y, x, y, …, which together are the mask.
    `rle_mask` is the mask as a COCO compressed RLE string of the image's size. `image_size` is the
    (width, height) of the image that the box is for, where its file says so.
    """

    tag: str
    bbox: Box
    score: float = 1.0
    is_relative: bool = False
    polygons: tuple[Polygon, ...] = ()
    rle_mask: str | None = None
    image_size: tuple[int, int] | None = None

    @property
    def problem(self) -> str | None:
        """Why the box cannot be used, whatever its image; None where it can."""
        if not all(map(math.isfinite, self.bbox)):
            return "is not finite"
        if not 0 <= self.score <= 1:
            return "has a score beyond 0 to 1"
        x0, y0, x1, y1 = self.bbox
        return None if x0 < x1 and y0 < y1 else "has no area"

    def placed(self, width: int, height: int) -> GivenRegion:
        """The region in pixels of an image of this size, its mask as RLE.

        Raises `UserError` where the box lies outside the image, or box or mask are for one of
        another size.
        """
        if self.image_size not in (None, (width, height)):
            stated = "x".join(map(str, self.image_size or ()))
            raise UserError(f"is for {stated} pixels, and the image has {width}x{height}")
        region = self
        if self.is_relative:
            x0, y0, x1, y1 = self.bbox
            region = replace(
                self,
                bbox=(x0 * width, y0 * height, x1 * width, y1 * height),
                polygons=tuple(
                    tuple(v * (height if n % 2 else width) for n, v in enumerate(polygon))
                    for polygon in self.polygons
                ),
                is_relative=False,
            )
        x0, y0, x1, y1 = region.bbox
        if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
            raise UserError(f"lies outside the image of {width}x{height} pixels")
        if region.rle_mask is not None:
            try:
                masks.area(region.rle_mask, height, width)
            except ValueError as error:
                raise UserError(f"has a mask that does not fit: {error}") from error
        elif region.polygons:
            region = replace(region, rle_mask=_rasterise(region.polygons, width, height))
        return replace(region, polygons=())


def _rasterise(polygons: Sequence[Polygon], width: int, height: int) -> str:
    """Polygons in pixels -> the RLE string of the pixels in any of them, as COCO draws them."""
    corners: Any = [list(polygon) for polygon in polygons]
    whole: Any = coco_mask.merge(coco_mask.frPyObjects(corners, height, width))
    return whole["counts"].decode("ascii")


def read_regions(value: Any, where: str, box_format: BoxFormat = "xyxy") -> tuple[GivenRegion, ...]:
    """The regions of one image from plain values.

    A list of boxes, each four numbers, a mapping with a box (`bbox`, `box`), perhaps a label
    (`label`, `tag`, `category`, `name`, …) and a `score`, or a `GivenRegion`; or one mapping whose
    values are lists, as the datasets library keeps them. Raises `UserError`, which begins with
    `where`, for all else.
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        value = _transposed(value, where)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise UserError(f"{where} should be a list of boxes, found {_shown(value)}")
    return tuple(_region(one, f"{where}: box {n}", box_format) for n, one in enumerate(value, 1))


def _transposed(value: Mapping[str, Any], where: str) -> list[dict[str, Any]]:
    lists = {key: item for key, item in value.items() if isinstance(item, Sequence)}
    lengths = {len(item) for item in lists.values()}
    if not any(key in lists for key in _BOX_KEYS) or len(lengths) != 1:
        raise UserError(
            f"{where} should hold a list of boxes under {' or '.join(_BOX_KEYS)}, and others of "
            f"the same length beside it; found {', '.join(value) or 'nothing'}"
        )
    return [{key: item[n] for key, item in lists.items()} for n in range(lengths.pop())]


def _region(value: Any, where: str, box_format: BoxFormat) -> GivenRegion:
    if isinstance(value, GivenRegion):
        return value
    label, score, box = None, None, value
    if isinstance(value, Mapping):
        box = next((value[key] for key in _BOX_KEYS if value.get(key) is not None), None)
        label = next((value[key] for key in _LABEL_KEYS if value.get(key) is not None), None)
        score = value.get("score")
    if isinstance(label, Real):
        raise UserError(
            f"{where} has the number {label} for a label; expected its name, as a tag is written"
        )
    if not (label is None or isinstance(label, str)) or not (
        score is None or (isinstance(score, Real) and 0 <= float(score) <= 1)
    ):
        raise UserError(
            f"{where} should have a label of text and a score from 0 to 1, found "
            f"{_shown(label)} and {_shown(score)}"
        )
    numbers = list(box) if isinstance(box, Sequence) and not isinstance(box, str | bytes) else []
    if len(numbers) != 4 or not all(isinstance(number, Real) for number in numbers):
        raise UserError(f"{where} should be four numbers ({box_format}), found {_shown(box)}")
    try:
        bbox = corners(numbers, box_format)
    except OverflowError as error:
        raise UserError(f"{where} has a number that is too large: {_shown(box)}") from error
    return GivenRegion(
        tag=(label or "").strip() or UNNAMED,
        bbox=bbox,
        score=1.0 if score is None else float(score),
    )


def corners(numbers: Sequence[float], box_format: BoxFormat) -> Box:
    """A box of four numbers as (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = map(float, numbers)
    return (x0, y0, x1, y1) if box_format == "xyxy" else (x0, y0, x0 + x1, y0 + y1)


def _shown(value: Any) -> str:
    try:
        return repr(str(value)[:80])
    except RecursionError:
        return f"a {type(value).__name__}"
