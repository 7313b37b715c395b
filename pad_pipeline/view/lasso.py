"""A part of the map, drawn by hand: its corners in an address, and the cells that it covers."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

CELLS = 1000
"""Along each side of the map; places and corners are whole numbers below."""
PATTERN = r"(\d{1,3}\.\d{1,3}(-\d{1,3}\.\d{1,3}){1,199})?"
"""`120.80-300.90`: two corners of a rectangle, or those of a polygon."""


def covered_cells(lasso: str) -> bytes:
    """The cells inside, row by row from the upper left, as bits."""
    corners = [tuple(map(int, corner.split("."))) for corner in lasso.split("-")]
    image = Image.new("1", (CELLS, CELLS))
    draw = ImageDraw.Draw(image)
    if len(corners) == 2:
        (x0, y0), (x1, y1) = corners
        draw.rectangle((min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)), fill=1)
    else:
        draw.polygon(corners, fill=1, outline=1)
    return np.packbits(np.asarray(image)).tobytes()
