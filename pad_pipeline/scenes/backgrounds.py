"""Illustrated backgrounds: meadow, beach, sea floor, desert, snow, night and rooms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from pad_pipeline.scenes.things.pen import Colour
from pad_pipeline.scenes.things.scenery import (
    corals,
    fence,
    furnish,
    gradient,
    hill,
    rocks,
    specks,
    tufts,
)

_SCALE = 2


def planar(image: Image.Image) -> np.ndarray:
    """The channels of an image one after the other, (C, H, W) float32 in 0..255.

    Arithmetic by pixel runs several times faster on rows of one channel than on threes.
    """
    return np.asarray(image).transpose(2, 0, 1).astype(np.float32, order="C")


def _meadow(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(*size, (156, 208, 238), (232, 244, 240))
    draw = ImageDraw.Draw(image)
    horizon = rng.uniform(0.42, 0.58)
    hill(draw, rng, size, horizon - 0.05, 0.05, (176, 208, 168))
    hill(draw, rng, size, horizon + 0.04, 0.04, (158, 200, 128))
    if rng.random() < 0.6:
        fence(draw, rng, size, horizon + 0.17, (226, 214, 190))
    hill(draw, rng, size, horizon + 0.16, 0.03, (138, 188, 104))
    rocks(draw, rng, size, (horizon + 0.22, 1), 4, (164, 170, 160))
    tufts(draw, rng, size, horizon + 0.16, 40, ((112, 166, 84), (166, 208, 124)))
    specks(draw, rng, size, (horizon + 0.2, 1), 14, ((246, 240, 200), (250, 226, 150)), 2.2)
    return image


def _beach(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(*size, (142, 206, 232), (236, 244, 232))
    draw = ImageDraw.Draw(image)
    width, height = size
    sea = rng.uniform(0.36, 0.46)
    draw.rectangle((0, sea * height, width, height), fill=(96, 178, 198))
    shore = sea + rng.uniform(0.16, 0.26)
    for k in range(22):
        x, y = rng.random() * width, (sea + 0.02 + (shore - sea) * k / 22) * height
        draw.line((x, y, x + 26, y), fill=(150, 208, 218), width=2)
    hill(draw, rng, size, shore - 0.02, 0.014, (222, 240, 236))
    hill(draw, rng, size, shore + 0.02, 0.014, (240, 220, 172))
    specks(draw, rng, size, (shore + 0.06, 1), 60, ((222, 198, 146), (250, 236, 200)))
    rocks(draw, rng, size, (shore + 0.06, 1), 6, (186, 172, 154))
    tufts(draw, rng, size, shore + 0.1, 12, ((164, 176, 112), (190, 192, 130)))
    return image


def _sea_floor(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(*size, (126, 206, 214), (46, 118, 158))
    draw = ImageDraw.Draw(image)
    width, height = size
    for k in range(4):
        x = (k + rng.random()) * width / 4
        draw.polygon((x, 0, x + 24, 0, x - 30, height, x - 90, height), fill=(112, 192, 206))
    floor = rng.uniform(0.74, 0.84)
    for k in range(9):
        x, top = rng.random() * width, (floor - rng.uniform(0.1, 0.32)) * height
        ys = np.linspace(height * (floor + 0.06), top, 9)
        xs = x + 7 * np.sin(np.arange(9) * 1.3 + k)
        colour = ((64, 140, 122), (82, 160, 128))[k % 2]
        draw.line(np.stack([xs, ys], 1).ravel().tolist(), fill=colour, width=6, joint="curve")
    hill(draw, rng, size, floor, 0.02, (226, 208, 160))
    specks(draw, rng, size, (floor + 0.04, 1), 40, ((204, 182, 134), (242, 228, 190)))
    rocks(draw, rng, size, (floor + 0.04, 1), 6, (132, 146, 146))
    corals(draw, rng, size, floor)
    specks(draw, rng, size, (0, floor - 0.05), 16, ((168, 222, 226), (150, 212, 220)), 3)
    return image


def _desert(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(*size, (250, 214, 160), (252, 238, 208))
    draw = ImageDraw.Draw(image)
    horizon = rng.uniform(0.42, 0.56)
    hill(draw, rng, size, horizon, 0.06, (232, 188, 134))
    hill(draw, rng, size, horizon + 0.14, 0.05, (224, 174, 116))
    edge = hill(draw, rng, size, horizon + 0.28, 0.03, (214, 160, 102))
    width = size[0]
    x = np.linspace(0, 1, 33) * width
    for k in range(1, 5):
        ripple = np.stack([x, edge + k * 24 + 3 * np.sin(x / 18 + k)], 1).ravel().tolist()
        draw.line(ripple, fill=(200, 146, 90), width=2)
    specks(draw, rng, size, (horizon + 0.32, 1), 26, ((190, 138, 86), (238, 200, 148)))
    rocks(draw, rng, size, (horizon + 0.16, 1), 8, (178, 128, 92))
    tufts(draw, rng, size, horizon + 0.2, 10, ((164, 130, 72), (180, 148, 84)))
    return image


def _snow(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(*size, (156, 178, 212), (222, 226, 240))
    draw = ImageDraw.Draw(image)
    horizon = rng.uniform(0.44, 0.58)
    hill(draw, rng, size, horizon - 0.06, 0.07, (184, 200, 224))
    hill(draw, rng, size, horizon + 0.05, 0.04, (206, 218, 234))
    if rng.random() < 0.6:
        fence(draw, rng, size, horizon + 0.2, (158, 150, 158))
    hill(draw, rng, size, horizon + 0.18, 0.03, (226, 234, 242))
    rocks(draw, rng, size, (horizon + 0.24, 1), 5, (168, 180, 200))
    tufts(draw, rng, size, horizon + 0.24, 10, ((150, 146, 150), (176, 172, 170)))
    specks(draw, rng, size, (horizon + 0.24, 1), 26, ((204, 216, 232), (192, 206, 226)))
    specks(draw, rng, size, (0, 1), 46, ((244, 248, 252), (236, 242, 250)), 2.6)
    return image


def _night(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    image = gradient(*size, (34, 42, 84), (106, 98, 146))
    draw = ImageDraw.Draw(image)
    horizon = rng.uniform(0.52, 0.64)
    specks(draw, rng, size, (0, horizon), 60, ((196, 200, 226), (132, 140, 186)), 1.7)
    hill(draw, rng, size, horizon, 0.05, (70, 78, 116))
    hill(draw, rng, size, horizon + 0.12, 0.04, (54, 68, 98))
    if rng.random() < 0.6:
        fence(draw, rng, size, horizon + 0.26, (98, 100, 128))
    hill(draw, rng, size, horizon + 0.24, 0.03, (44, 60, 82))
    rocks(draw, rng, size, (horizon + 0.28, 1), 5, (70, 80, 104))
    tufts(draw, rng, size, horizon + 0.26, 28, ((70, 92, 108), (34, 48, 70)))
    return image


_PAPERS: tuple[tuple[Colour, Colour], ...] = (
    ((226, 232, 214), (208, 220, 196)),
    ((244, 228, 214), (234, 210, 194)),
    ((218, 228, 238), (200, 214, 230)),
    ((236, 222, 236), (222, 204, 226)),
)


def _striped_room(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    paper, stripe = _PAPERS[int(rng.integers(len(_PAPERS)))]
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    step = int(rng.integers(26, 52))
    for x in range(0, size[0], step):
        draw.rectangle((x, 0, x + step // 2, size[1]), fill=stripe)
    furnish(draw, rng, size, (206, 166, 122))
    return image


def _dotted_room(rng: np.random.Generator, size: tuple[int, int]) -> Image.Image:
    paper, dot = _PAPERS[int(rng.integers(len(_PAPERS)))]
    image = Image.new("RGB", size, paper)
    draw = ImageDraw.Draw(image)
    step = int(rng.integers(30, 50))
    for row, y in enumerate(range(0, size[1], step)):
        for x in range(-(row % 2) * step // 2, size[0] + step, step):
            draw.polygon((x, y - 9, x + 7, y, x, y + 9, x - 7, y), fill=dot)
    furnish(draw, rng, size, (188, 146, 112))
    return image


_PLACES: tuple[tuple[str, Callable[[np.random.Generator, tuple[int, int]], Image.Image]], ...] = (
    ("on a green meadow", _meadow),
    ("on a sandy beach", _beach),
    ("on the sea floor", _sea_floor),
    ("in a sandy desert", _desert),
    ("in a snowy land", _snow),
    ("on a dark night", _night),
    ("in a room with striped wallpaper", _striped_room),
    ("in a room with dotted wallpaper", _dotted_room),
)


def draw_background(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, str]:
    """A background as (3, height, width) float32 in 0..255, and the words that say where it is."""
    words, draw = _PLACES[int(rng.integers(len(_PLACES)))]
    image = draw(rng, (width * _SCALE, height * _SCALE)).reduce(_SCALE)
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    # Slow waves of light and a change of tint keep one place from looking like another's copy.
    coarse = rng.normal(0, 5.0, (5, 6)).astype(np.float32)
    waves = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    tint = rng.uniform(0.93, 1.05, 3).astype(np.float32)
    planes = planar(image)
    planes *= tint[:, None, None]
    planes += waves
    return planes, words
