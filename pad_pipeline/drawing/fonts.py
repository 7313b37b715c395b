"""The font of labels and captions: its sizes, and texts that are cut to a width."""

from __future__ import annotations

from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_UNCROWDED = 8  # regions; with more of them labels become smaller


@lru_cache(maxsize=64)
def load_font(size: int) -> Font:
    """Pillow's built-in outline font at `size` pixels."""
    return ImageFont.load_default(size)


def elide(text: str, font: Font, width: float) -> str:
    """`text`, shortened with "…" at the end so that it is at most `width` pixels wide."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1].rstrip()
    return text + "…"


def font_size_for(size: tuple[int, int], num_regions: int) -> int:
    """Height of the labels' letters in a picture of this size with `num_regions` regions."""
    crowded = min(1.0, (_UNCROWDED / max(num_regions, 1)) ** 0.3)
    return int(min(max(round(min(size) / 32 * crowded), 11), 26))
