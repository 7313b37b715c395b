"""Colours of tags."""

from __future__ import annotations

import numpy as np

from pad_pipeline.drawing.colours import oklch_to_rgb, tag_colour


def test_colours_are_stable_and_bright_enough():
    # Fixed by the checksum: another colour for a tag would change every picture made before.
    assert tag_colour("apple") == tag_colour(" Apple ") == (169, 199, 23)
    colours = {tag_colour(f"tag {number}") for number in range(500)}
    assert len(colours) == 48
    for red, green, blue in colours:
        assert 80 < 0.2126 * red + 0.7152 * green + 0.0722 * blue < 235


def test_oklch_of_known_colours():
    # From Ottosson's definition: white, mid grey and sRGB red.
    assert oklch_to_rgb(1.0, 0.0, 0.0) == (255, 255, 255)
    assert oklch_to_rgb(0.5999, 0.0, 0.0) == (128, 128, 128)
    assert np.abs(np.subtract(oklch_to_rgb(0.6279, 0.2577, 29.23), (255, 0, 0))).max() <= 2
