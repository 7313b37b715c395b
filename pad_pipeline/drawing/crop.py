"""One region cut out of its image, what is not of it dimmed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pad_pipeline.records import PadRecord, Region
from pad_pipeline.region_masks import region_mask

_MARGIN = 0.08
"""Around the box, of its longest side."""
_LARGEST_SCALE = 4.0
_DIM = 0.62
"""Of what is not the region, towards dark grey."""
_GREY = np.array([24, 26, 31], np.float32)


def draw_crop(
    image: NDArray[np.uint8], record: PadRecord, region: Region, side: int, *, dimmed: bool = True
) -> Image.Image:
    """An RGB picture of the region's box with some room, at most `side` pixels wide and high.

    `image` is (H, W, 3) uint8 RGB of the record's size. Raises `UserError` where it is `dimmed` and
    the mask does not fit the record.
    """
    x0, y0, x1, y1 = (float(value) if np.isfinite(value) else 0.0 for value in region.bbox)
    room = _MARGIN * max(x1 - x0, y1 - y0) + 1
    left, right = _within(x0 - room, x1 + room, record.width)
    top, bottom = _within(y0 - room, y1 + room, record.height)
    part = image[top:bottom, left:right].astype(np.float32)
    if dimmed:
        outside = ~region_mask(record, region)[top:bottom, left:right]
        part[outside] += _DIM * (_GREY - part[outside])
    picture = Image.fromarray(np.rint(part).astype(np.uint8))
    scale = min(_LARGEST_SCALE, side / max(picture.size))
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)


def _within(first: float, last: float, length: int) -> tuple[int, int]:
    """Whole pixels of a side of this length, at least one."""
    start = min(max(int(first), 0), length - 1)
    return start, min(max(int(np.ceil(last)), start + 1), length)
