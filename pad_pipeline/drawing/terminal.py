"""Pictures in a terminal: two pixels in each character, and text that cannot steer it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.style import Style
from rich.text import Text

_MOST_ROWS = 28
_CONTROL = {code: "�" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


def half_blocks(pixels: NDArray[np.uint8], columns: int, most_rows: int = _MOST_ROWS) -> Text:
    """An (H, W, 3) uint8 RGB picture as lines of ▀, two pixels in each.

    At most `columns` wide and `most_rows` lines high, in the picture's shape.
    """
    height, width = pixels.shape[:2]
    scale = min(columns / width, 2 * most_rows / height)
    size = (max(1, round(width * scale)), max(2, round(height * scale / 2) * 2))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX))
    text = Text()
    for upper, lower in zip(small[::2], small[1::2], strict=True):
        for above, below in zip(upper.tolist(), lower.tolist(), strict=True):
            text.append("▀", Style(color=terminal_colour(above), bgcolor=terminal_colour(below)))
        text.append("\n")
    text.rstrip()
    return text


def printable(text: str) -> str:
    """`text` with control characters replaced, so that a caption cannot steer the terminal."""
    return text.translate(_CONTROL)


def terminal_colour(colour: tuple[int, int, int] | list[int]) -> str:
    """An sRGB colour, 0–255, as rich names it."""
    red, green, blue = colour
    return f"rgb({red},{green},{blue})"
