"""Boxes over a picture: thin rounded lines in the colours of their tags."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from pad_pipeline.drawing.colours import Colour
from pad_pipeline.drawing.label_places import Rect
from pad_pipeline.records import Region

SMOOTH = 2
"""Boxes and labels are drawn this many times larger, then reduced."""


def draw_boxes(
    canvas: Image.Image,
    regions: Sequence[Region],
    colours: Mapping[str, Colour],
    scale: float,
    line_width: float,
    corner_radius: float,
) -> Image.Image:
    """The picture with the regions' boxes; `colours` is by tag, lengths are output pixels."""
    layer = Image.new("RGBA", (canvas.width * SMOOTH, canvas.height * SMOOTH))
    draw = ImageDraw.Draw(layer)
    for region in regions:
        x0, y0, x1, y1 = (SMOOTH * value for value in shown_box(region, scale, canvas.size))
        radius = min(SMOOTH * corner_radius, (x1 - x0) / 2, (y1 - y0) / 2)
        outline = (*colours[region.tag], 235)
        draw.rounded_rectangle(
            (x0, y0, x1, y1), radius, outline=outline, width=round(SMOOTH * line_width)
        )
    layer = layer.reduce(SMOOTH)
    return Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")


def shown_box(region: Region, scale: float, size: tuple[int, int]) -> Rect:
    """The region's box in output pixels, cut to the picture; upright also where it is damaged."""
    x0, y0, x1, y1 = (scale * value if np.isfinite(value) else 0.0 for value in region.bbox)
    left, right = sorted((min(max(x0, 0.0), size[0] - 1.0), min(max(x1, 0.0), size[0] - 1.0)))
    top, bottom = sorted((min(max(y0, 0.0), size[1] - 1.0), min(max(y1, 0.0), size[1] - 1.0)))
    return left, top, right, bottom
