"""A colour for every tag, evenly spread over the hues; on one picture, colours that differ.

Apart also for people who do not see red or green as others do.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_LIGHTNESSES = (0.66, 0.78)
_FURTHER_LIGHTNESSES = (0.54, 0.88)
"""Of the colours that only tags get whose own is too near to another's on the picture."""
_CHROMA = 0.19
_NUM_HUES = 24
"""Fifteen degrees apart: more could not be distinguished on a picture."""
_START = 294
"""The checksum's start: with this one the twenty kinds of the generated scenes all differ."""


_NUM_OWN = _NUM_HUES * len(_LIGHTNESSES)
NUM_COLOURS = _NUM_HUES * (len(_LIGHTNESSES) + len(_FURTHER_LIGHTNESSES))

_LEAST_DISTANCE = 0.09
"""Between two colours of a picture, in OKLab; eight tags or fewer can always keep it."""

_VISIONS = (
    np.eye(3),
    np.array(  # no red cones
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    np.array(  # no green cones
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
)
"""What becomes of linear sRGB in three kinds of eyes (Machado, Oliveira and Fernandes 2009)."""

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
"""Linear sRGB -> OKLab (Ottosson 2020), in two steps with a cube root between."""

Colour = tuple[int, int, int]
"""sRGB, 0–255."""


def tag_colour(tag: str) -> Colour:
    """A tag's own colour, from a checksum of it, so the same on every machine and in every run."""
    return colour(colour_number(tag))


def colour_number(tag: str) -> int:
    """The number of the tag's own colour."""
    checksum = zlib.crc32(tag.strip().lower().encode("utf-8", "surrogatepass"), _START)
    return checksum % _NUM_OWN


def distinct_colours(tags: Iterable[str]) -> dict[str, int]:
    """The numbers of the colours of tags that are shown together, by tag.

    A tag has its own colour unless that is too near to the one of a tag before it in the alphabet;
    then it gets the colour that is farthest from all of those. The order of `tags` has no effect.
    """
    return dict(_distinct(tuple(sorted(set(tags)))))


@lru_cache(maxsize=4096)
def _distinct(tags: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    distances = _distances()
    chosen: dict[str, int] = {}
    for tag in tags:
        number, taken = colour_number(tag), list(chosen.values())
        if taken and distances[number, taken].min() < _LEAST_DISTANCE:
            number = int(distances[:, taken].min(axis=1).argmax())
        chosen[tag] = number
    return tuple(chosen.items())


@lru_cache(maxsize=1)
def _distances() -> NDArray[np.float64]:
    """(NUM_COLOURS, NUM_COLOURS): how far apart two colours are for whom they are nearest."""
    values = np.array([colour(number) for number in range(NUM_COLOURS)]) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    seen = [np.clip(linear @ vision.T, 0, 1) for vision in _VISIONS]
    places = [np.cbrt(light @ _TO_CONES.T) @ _TO_LAB.T for light in seen]
    apart = [np.linalg.norm(lab[:, None] - lab[None], axis=2) for lab in places]
    return np.min(apart, axis=0)


def colour(number: int) -> Colour:
    """A colour by its number, below `NUM_COLOURS`."""
    lightnesses = _LIGHTNESSES if number < _NUM_OWN else _FURTHER_LIGHTNESSES
    hue, lightness = divmod(number % _NUM_OWN, len(lightnesses))
    return oklch_to_rgb(lightnesses[lightness], _CHROMA, 360 * hue / _NUM_HUES)


def oklch_to_rgb(lightness: float, chroma: float, hue_degrees: float) -> tuple[int, int, int]:
    """OKLCH (Ottosson 2020: perceptual lightness 0–1, chroma, hue) -> sRGB, 0–255.

    A chroma that sRGB cannot show at this lightness and hue is lowered until it can.
    """
    for step in range(20, -1, -1):
        linear = _oklch_to_linear(lightness, chroma * step / 20, math.radians(hue_degrees))
        if all(-1e-4 <= value <= 1 + 1e-4 for value in linear):
            red, green, blue = (round(255 * _gamma(min(max(v, 0.0), 1.0))) for v in linear)
            return red, green, blue
    return (255, 255, 255) if lightness > 1 else (0, 0, 0)


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _gamma(linear: float) -> float:
    return 12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055
