"""The regions that questions ask about: their words and their place in the frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.geometry import ImageGeometry

RegionSet = Literal["whole", "halves", "quarters"]

WHOLE = ""
"""The words of the whole image."""


@dataclass(frozen=True, slots=True)
class FrameRegion:
    """A rectangle of the frame, in its pixels: rows y0 to y1, columns x0 to x1.

    `words` is what stands before "this image" in a question, such as "the upper left quarter of".
    """

    words: str
    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def width(self) -> int:
        """Pixels along x."""
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        """Pixels along y."""
        return self.y1 - self.y0

    @property
    def window(self) -> tuple[slice, slice]:
        """The rows and columns of an array (H, W, …) of the frame."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


_SETS: Mapping[RegionSet, Mapping[str, tuple[int, int, int, int]]] = {
    "whole": {WHOLE: (0, 0, 2, 2)},
    "halves": {
        "the upper half of": (0, 0, 2, 1),
        "the lower half of": (0, 1, 2, 2),
        "the left half of": (0, 0, 1, 2),
        "the right half of": (1, 0, 2, 2),
    },
    "quarters": {
        "the upper left quarter of": (0, 0, 1, 1),
        "the upper right quarter of": (1, 0, 2, 1),
        "the lower left quarter of": (0, 1, 1, 2),
        "the lower right quarter of": (1, 1, 2, 2),
    },
}
"""The regions of each set by their words: x0, y0, x1, y1 in halves of the frame's side."""


def named_regions(sets: Sequence[RegionSet], size: int, factor: int) -> list[FrameRegion]:
    """The regions of the sets in a square frame of `size` pixels, in a fixed order.

    Raises `UserError` where codes of `factor` pixels do not divide one of them.
    """
    half = size // 2
    found = []
    for name in dict.fromkeys(sets):
        for words, (x0, y0, x1, y1) in _SETS[name].items():
            region = FrameRegion(words, x0 * half, y0 * half, x1 * half, y1 * half)
            divided = region.height % factor == 0 and region.width % factor == 0
            if size % 2 or not divided:
                needed = factor if name == "whole" else 2 * factor
                what = "the whole" if name == "whole" else name
                raise UserError(
                    Setting("size", size),
                    f" does not fit codes that cover {factor}x{factor} pixels: {what} of it would "
                    f"cut some; take a multiple of {needed}, such as {-(-size // needed) * needed}",
                )
            found.append(region)
    return found


def tagged_regions(
    tags: Sequence[str],
    boxes_xyxy: Sequence[Sequence[float]],
    geometry: ImageGeometry,
    factor: int,
) -> list[FrameRegion]:
    """Boxes of an image's tagged regions, grown to whole codes of the frame.

    `boxes_xyxy` are in pixels of the original image. A tag that several regions have names none of
    them, and a box that the frame does not show is none; both are left out.
    """
    width, height = geometry.frame
    found = []
    for tag, box in zip(tags, boxes_xyxy, strict=True):
        if tags.count(tag) > 1:
            continue
        x0, y0, x1, y1 = np.clip(geometry.to_frame(box), 0, (width, height, width, height))
        if x1 - x0 < 1 or y1 - y0 < 1:
            continue
        x0, y0 = (int(side // factor) * factor for side in (x0, y0))
        x1, y1 = (-int(-side // factor) * factor for side in (x1, y1))
        words = f"the part with the {tag} of"
        found.append(FrameRegion(words, x0, y0, min(x1, width), min(y1, height)))
    return found
