"""Draws a record on its image: masks as tinted glass with a crisp rim, thin boxes, tag labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pad_pipeline.drawing.boxes import draw_boxes
from pad_pipeline.drawing.colours import Colour, colour, distinct_colours
from pad_pipeline.drawing.fonts import font_size_for
from pad_pipeline.drawing.labels import draw_labels
from pad_pipeline.drawing.masks import mask_layers, tint_mask
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.region_masks import region_mask

OPACITY = 0.16
"""Of a mask's tint: light enough that the picture's own colours are seen through it."""


@dataclass(frozen=True, slots=True)
class _Pen:
    """Sizes in output pixels: the masks' rim, the boxes' line, the labels' letters."""

    rim: float
    line: float
    font_size: int


def draw_record(
    image: NDArray[np.uint8],
    record: PadRecord,
    *,
    opacity: float = OPACITY,
    scale: float | None = None,
    boxes: bool = True,
    labels: bool = True,
    font_size: int | None = None,
) -> Image.Image:
    """An RGB picture of the record's regions on `image`, (H, W, 3) uint8 RGB.

    `opacity` is that of the masks' tint, `scale` the output pixels per image pixel: by default 1,
    and more for images so small that labels would cover them. A region's colour depends on the tags
    of the record alone (`distinct_colours`), small regions are drawn over large ones, and labels
    stay inside the picture and keep off each other where there is room. `font_size` is in output
    pixels. Raises `UserError` where the image is not of the record's size or a mask does not fit.
    """
    height, width = image.shape[:2]
    if (width, height) != (record.width, record.height):
        raise UserError(
            f"the record of {record.image_id} is for {record.width}x{record.height} pixels, but "
            f"the image has {width}x{height}: it is another image, or it was changed since"
        )
    if scale is None:
        scale = max(1.0, min(480 / min(width, height), 1280 / max(width, height)))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    pen = _pen(size, len(record.labels), font_size)
    canvas = Image.fromarray(image)
    if size != canvas.size:
        canvas = canvas.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(canvas).astype(np.float32)
    by_area = sorted(record.labels, key=lambda region: -region.area)
    colours = _colours(record)
    for region in by_area:
        mask = region_mask(record, region)
        tint_mask(pixels, mask, colours[region.tag], opacity, scale, pen.rim)
    canvas = Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))
    if boxes:
        canvas = draw_boxes(canvas, by_area, colours, scale, pen.line, pen.font_size / 3)
    if labels:
        canvas = draw_labels(canvas, by_area, colours, scale, pen.font_size)
    return canvas


def draw_layer(
    record: PadRecord, region: Region, scale: float, tint: Colour | None = None
) -> tuple[Image.Image, Image.Image]:
    """What `draw_record` lays over an image for one mask: its tint, opaque, and its rim.

    Two RGBA pictures of the image's shape, `scale` output pixels per image pixel, transparent
    elsewhere; the tint takes the opacity that it is shown with. It has the tag's colour unless
    another is given. Raises `UserError` where the mask
    does not fit the record.
    """
    size = (max(1, round(record.width * scale)), max(1, round(record.height * scale)))
    pen = _pen(size, len(record.labels), None)
    mask = region_mask(record, region)
    return mask_layers(mask, tint or _colours(record)[region.tag], size, scale, pen.rim)


def _colours(record: PadRecord) -> dict[str, Colour]:
    numbers = distinct_colours(region.tag for region in record.labels)
    return {tag: colour(number) for tag, number in numbers.items()}


def _pen(size: tuple[int, int], num_regions: int, font_size: int | None) -> _Pen:
    letters = font_size or font_size_for(size, num_regions)
    return _Pen(rim=max(1.5, letters / 7), line=max(1.0, letters / 9), font_size=letters)
