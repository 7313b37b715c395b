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
from pad_pipeline.given_masks import Box, GivenMask, Polygon, describe, read_mask

BoxFormat = Literal["xyxy", "xywh"]
"""The corners (x0, y0, x1, y1), or the upper left corner with width and height, as COCO has it."""

UNNAMED = "object"
"""The label of a box that has none."""

_BOX_KEYS = ("bbox", "box")
_MASK_KEYS = ("segmentation", "mask", "polygons", "rle_mask", "rle")
_LABEL_KEYS = ("label", "tag", "category", "name", "class", "text", "phrase")


_FAR = 10
"""Polygons may reach out of their image by so many of its longer sides; drawing takes as long as
they are."""


class MisplacedRegion(UserError):
    """A region that does not fit its image; `kind` says how, in words that are the same for all."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


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

        Raises `MisplacedRegion` where the box lies outside the image, or box or mask are for one of
        another size.
        """
        if self.image_size not in (None, (width, height)):
            stated = "x".join(map(str, self.image_size or ()))
            raise MisplacedRegion(
                "for an image of another size",
                f"is for {stated} pixels, and the image has {width}x{height}",
            )
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
            raise MisplacedRegion(
                "outside their image", f"lies outside the image of {width}x{height} pixels"
            )
        if region.rle_mask is not None:
            try:
                masks.area(region.rle_mask, height, width)
            except ValueError as error:
                raise MisplacedRegion(
                    "whose mask does not fit", f"has a mask that does not fit: {error}"
                ) from error
        elif region.polygons:
            region = replace(region, rle_mask=_rasterise(region.polygons, width, height))
        return replace(region, polygons=())


def _rasterise(polygons: Sequence[Polygon], width: int, height: int) -> str:
    """Polygons in pixels -> the RLE string of the pixels in any of them, as COCO draws them."""
    limit = _FAR * max(width, height)
    if not all(abs(value) <= limit for polygon in polygons for value in polygon):  # nor NaN
        raise MisplacedRegion(
            "whose polygon reaches far out of the image",
            f"has a polygon that reaches far out of the image of {width}x{height} pixels",
        )
    corners: Any = [list(polygon) for polygon in polygons]
    whole: Any = coco_mask.merge(coco_mask.frPyObjects(corners, height, width))
    return whole["counts"].decode("ascii")


def read_regions(value: Any, where: str, box_format: BoxFormat = "xyxy") -> tuple[GivenRegion, ...]:
    """The regions of one image from plain values.

    A list of boxes, each four numbers, a mapping with a box (`bbox`, `box`), perhaps a label
    (`label`, `tag`, `category`, `name`, …), a `score` and a mask (`segmentation`, `mask`,
    `polygons`, `rle`, …; see `read_mask`), or a `GivenRegion`; or one mapping whose values are
    lists, as the datasets library keeps them. With a mask the box may be missing. Raises
    `UserError`, which begins with `where`, for all else.
    """
    if value is None:
        return ()
    if isinstance(value, Mapping):
        value = _transposed(value, where)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise UserError(f"{where} should be a list of boxes, found {describe(value)}")
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
    label, score, box, mask = None, None, value, GivenMask()
    if isinstance(value, Mapping):
        box = next((value[key] for key in _BOX_KEYS if value.get(key) is not None), None)
        label = next((value[key] for key in _LABEL_KEYS if value.get(key) is not None), None)
        score = value.get("score")
        shape = next((value[key] for key in _MASK_KEYS if value.get(key) is not None), None)
        mask = GivenMask() if shape is None else read_mask(shape, where)
    if isinstance(label, Real):
        raise UserError(
            f"{where} has the number {label} for a label; expected its name, as a tag is written"
        )
    if not (label is None or isinstance(label, str)) or not (
        score is None or (isinstance(score, Real) and 0 <= float(score) <= 1)
    ):
        raise UserError(
            f"{where} should have a label of text and a score from 0 to 1, found "
            f"{describe(label)} and {describe(score)}"
        )
    bbox = mask.box() if box is None else None
    if bbox is None:
        bbox = _read_box(box, where, box_format)
    return GivenRegion(
        tag=(label or "").strip() or UNNAMED,
        bbox=bbox,
        score=1.0 if score is None else float(score),
        polygons=mask.polygons,
        rle_mask=mask.rle_mask,
        image_size=mask.image_size,
    )


def _read_box(value: Any, where: str, box_format: BoxFormat) -> Box:
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    if len(numbers) != 4 or not all(isinstance(number, Real) for number in numbers):
        raise UserError(f"{where} should be four numbers ({box_format}), found {describe(value)}")
    try:
        return corners(numbers, box_format)
    except OverflowError as error:
        raise UserError(f"{where} has a number that is too large: {describe(value)}") from error


def corners(numbers: Sequence[float], box_format: BoxFormat) -> Box:
    """A box of four numbers as (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = map(float, numbers)
    return (x0, y0, x1, y1) if box_format == "xyxy" else (x0, y0, x0 + x1, y0 + y1)
