"""Pictures and texts in a terminal."""

from __future__ import annotations

import numpy as np

from pad_pipeline.drawing.terminal import half_blocks, printable


def test_control_characters_are_replaced() -> None:
    assert printable("a\x9bb\tc\n") == "a�b\tc\n"


def test_half_blocks_hold_two_pixels_each() -> None:
    pixels = np.zeros((4, 2, 3), np.uint8)
    pixels[0] = (255, 0, 0)
    text = half_blocks(pixels, 2)
    assert text.plain.split("\n")[:2] == ["▀▀", "▀▀"]
    first = text.spans[0].style
    assert first.color.triplet.rgb == "rgb(255,0,0)"
    assert first.bgcolor.triplet.rgb == "rgb(0,0,0)"
