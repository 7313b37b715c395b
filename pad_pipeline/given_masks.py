"""Masks that a user gives, as polygons or run lengths, read from plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from pad_pipeline import masks
from pad_pipeline.errors import UserError

Box = tuple[float, float, float, float]
Polygon = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class GivenMask:
    """A mask as `GivenRegion` has it; `image_size` where it says for which."""

    polygons: tuple[Polygon, ...] = ()
    rle_mask: str | None = None
    image_size: tuple[int, int] | None = None

    def box(self) -> Box | None:
        """The smallest box around it; None where its image's size is to be known for that."""
        if self.polygons:
            xs = [x for polygon in self.polygons for x in polygon[::2]]
            ys = [y for polygon in self.polygons for y in polygon[1::2]]
            return min(xs), min(ys), max(xs), max(ys)
        if self.rle_mask is None or self.image_size is None:
            return None
        return masks.bounding_box(self.rle_mask, *reversed(self.image_size))


def read_mask(value: Any, where: str) -> GivenMask:
    """A mask from plain values.

    A polygon as x, y, x, y, … or as points, or a list of polygons, as COCO has them; run lengths as
    a mapping with `counts` (a string, or numbers) and `size` (height, width), or their string
    alone. Raises `UserError`, which begins with `where`, for all else.
    """
    try:
        if isinstance(value, str | bytes):
            return GivenMask(rle_mask=_as_text(value))
        if isinstance(value, Mapping):
            return _run_lengths(value)
        return GivenMask(polygons=_polygons(value))
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise UserError(
            f"{where} should have a mask as polygons (x, y, x, y, …) or as COCO's run lengths, "
            f"found {describe(value)}"
        ) from error


def _as_text(counts: str | bytes) -> str:
    return counts.decode("ascii") if isinstance(counts, bytes) else counts


def _run_lengths(value: Mapping[str, Any]) -> GivenMask:
    height, width = map(int, value["size"])
    counts = value["counts"]
    if not isinstance(counts, str | bytes):
        lengths = [int(length) for length in counts]
        if min(lengths) < 0 or sum(lengths) != height * width:
            raise ValueError("the runs do not cover the image")
        counts = masks.encode_runs(lengths, height, width)
    return GivenMask(rle_mask=_as_text(counts), image_size=(width, height))


def _polygons(value: Any) -> tuple[Polygon, ...]:
    """Polygons of at least three points; those with fewer are no polygons."""
    parts = list(value)
    if parts and all(isinstance(part, Real) for part in parts):
        parts = [parts]  # one, its numbers in a row
    elif parts and all(len(part) == 2 and isinstance(part[0], Real) for part in parts):
        parts = [parts]  # one, as points
    polygons = []
    for part in parts:
        points = [one for pair in part for one in (pair if isinstance(pair, Sequence) else [pair])]
        if len(points) % 2:
            raise ValueError("a point without y")
        if len(points) >= 6:
            polygons.append(tuple(map(float, points)))
    return tuple(polygons)


def describe(value: Any) -> str:
    """The beginning of a value for a message, however deeply it is nested."""
    try:
        return repr(str(value)[:80])
    except RecursionError:
        return f"a {type(value).__name__}"
