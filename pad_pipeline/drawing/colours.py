"""A colour for every tag: the same one everywhere, evenly spread over the hues, equally bright."""

from __future__ import annotations

import math
import zlib

_LIGHTNESSES = (0.66, 0.78)
_CHROMA = 0.19
_NUM_HUES = 24
"""Fifteen degrees apart: more could not be distinguished on a picture."""
_START = 294
"""The checksum's start: with this one the twenty kinds of the generated scenes all differ."""


NUM_COLOURS = _NUM_HUES * len(_LIGHTNESSES)


def tag_colour(tag: str) -> tuple[int, int, int]:
    """sRGB, 0–255, from a checksum of the tag, so that it is the same on every machine and run."""
    return colour(colour_number(tag))


def colour_number(tag: str) -> int:
    """Which of the `NUM_COLOURS` colours the tag has."""
    checksum = zlib.crc32(tag.strip().lower().encode("utf-8", "surrogatepass"), _START)
    return checksum % NUM_COLOURS


def colour(number: int) -> tuple[int, int, int]:
    """The sRGB values, 0–255, of a colour of tags by its number."""
    hue, lightness = divmod(number, len(_LIGHTNESSES))
    return oklch_to_rgb(_LIGHTNESSES[lightness], _CHROMA, 360 * hue / _NUM_HUES)


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
