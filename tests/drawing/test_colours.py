"""Colours of tags."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pad_pipeline.drawing.colours import (
    NUM_COLOURS,
    colour,
    colour_number,
    distinct_colours,
    oklch_to_rgb,
    tag_colour,
)


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


def seen(rgb: tuple[int, int, int], without: str | None) -> np.ndarray:
    """Lightness and two opponent signals of a colour in CIE L*a*b*, as some eyes see it.

    Without red or green cones by Viénot, Brettel and Mollon (1999), another model than the
    program's.
    """
    linear = ((np.array(rgb) / 255 + 0.055) / 1.055) ** 2.4
    cones = np.array(
        [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
    )
    long, medium, short = cones @ linear
    if without == "red":
        long = 2.02344 * medium - 2.52581 * short
    if without == "green":
        medium = 0.494207 * long + 1.24827 * short
    linear = np.clip(np.linalg.solve(cones, [long, medium, short]), 0, 1)
    to_xyz = np.array(
        [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    )
    x, y, z = np.cbrt(to_xyz @ linear / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("without", [None, "red", "green"])
def test_colours_of_one_picture_are_told_apart_by_everyone(without: str | None) -> None:
    nearest = []
    for seed in range(60):
        tags = [f"tag {random.Random(seed).randrange(10**6) + number}" for number in range(8)]
        colours = [seen(colour(number), without) for number in distinct_colours(tags).values()]
        apart = [np.linalg.norm(a - b) for i, a in enumerate(colours) for b in colours[:i]]
        nearest.append(min(apart))
    assert min(nearest) > 5  # 2.3 is what is just noticed beside each other


def test_a_tag_keeps_its_own_colour_where_it_can() -> None:
    assert distinct_colours(["apple"]) == {"apple": colour_number("apple")}
    tags = [f"tag {number}" for number in range(12)]
    chosen = distinct_colours(tags)
    assert chosen == distinct_colours(reversed([*tags, *tags]))
    own = sum(chosen[tag] == colour_number(tag) for tag in tags)
    assert 1 <= own < 12
    assert len(set(chosen.values())) == 12
    assert max(chosen.values()) < NUM_COLOURS
    assert distinct_colours([]) == {}
    # Of a hundred tags some must share one.
    assert len(distinct_colours(f"tag {number}" for number in range(100))) == 100
