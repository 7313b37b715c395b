"""What backgrounds are made of: hills, grass, rocks, fences, corals, shelves, rugs and floors.

`size` is the (width, height) of the canvas in pixels; levels and rows are shares of its height.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from pad_pipeline.scenes.things.pen import Colour


def gradient(width: int, height: int, top: Colour, bottom: Colour) -> Image.Image:
    t = np.linspace(0, 1, height)[:, None, None]
    column = np.asarray(top) * (1 - t) + np.asarray(bottom) * t
    return Image.fromarray(column.round().astype(np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )


def hill(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    level: float,
    height: float,
    colour: Colour,
) -> np.ndarray:
    """A wavy ground from `level` (share of the height) down; its upper edge at 33 abscissas."""
    width, full = size
    x = np.linspace(0, 1, 33)
    a, b, p, q = rng.uniform(0.4, 1, 4)
    wave = a * np.sin(6.28 * (p * x + a)) + 0.5 * b * np.sin(6.28 * (2.3 * q * x + b))
    y = (level + height * wave) * full
    points = np.stack([x * width, y], axis=1).ravel().tolist()
    draw.polygon([*points, width, full, 0, full], fill=colour)
    return y


def tufts(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    top: float,
    count: int,
    colours: tuple[Colour, Colour],
) -> None:
    width, height = size
    spots = rng.random((count, 2)) * [width, height * (1 - top)] + [0, height * top]
    lengths = rng.uniform(5, 13, count)
    for k, ((x, y), length) in enumerate(zip(spots.tolist(), lengths.tolist(), strict=True)):
        colour = colours[k % 2]
        for lean in (-0.45, 0.0, 0.4):
            draw.line((x, y, x + lean * length, y - length), fill=colour, width=2)


def specks(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    rows: tuple[float, float],
    count: int,
    colours: tuple[Colour, Colour],
    radius: float = 2.5,
) -> None:
    width, height = size
    spots = rng.random((count, 2)) * [width, height * (rows[1] - rows[0])] + [0, height * rows[0]]
    for k, (x, y) in enumerate(spots.tolist()):
        r = radius * (0.6 + (k % 5) * 0.2)
        draw.ellipse((x - r, y - r * 0.7, x + r, y + r * 0.7), fill=colours[k % 2])


def rocks(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    rows: tuple[float, float],
    count: int,
    colour: Colour,
) -> None:
    width, height = size
    light = (colour[0] + 18, colour[1] + 18, colour[2] + 18)
    for u, v, r, flat in rng.random((count, 4)).tolist():
        x, y = u * width, (rows[0] + v * (rows[1] - rows[0])) * height
        r = 7 + 15 * r
        h = r * (0.5 + 0.4 * flat)
        top = (x - 0.8 * r, y - 0.7 * h, x - 0.1 * r, y - h)
        draw.polygon((x - r, y, *top, x + 0.7 * r, y - 0.6 * h, x + r, y), fill=colour)
        draw.polygon((*top, x, y - 0.5 * h), fill=light)


def fence(
    draw: ImageDraw.ImageDraw,
    rng: np.random.Generator,
    size: tuple[int, int],
    level: float,
    colour: Colour,
) -> None:
    """A low fence over a part of the width, its foot at `level`."""
    width, height = size
    tall, step, foot = 0.12 * height, 26, level * height
    start, posts = rng.uniform(-0.1, 0.6) * width, int(rng.integers(5, 11))
    dark = (colour[0] - 24, colour[1] - 24, colour[2] - 24)
    for y in (foot - 0.7 * tall, foot - 0.35 * tall):
        draw.rectangle((start - 10, y - 3, start + (posts - 1) * step + 20, y + 3), fill=dark)
    for k in range(posts):
        x = start + k * step
        draw.polygon(
            (x, foot, x, foot - tall, x + 5, foot - tall - 6, x + 10, foot - tall, x + 10, foot),
            fill=colour,
        )


def corals(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], level: float
) -> None:
    width, height = size
    for k in range(3):
        x, y = rng.random() * width, (level + rng.uniform(0.03, 0.1)) * height
        colour = ((196, 128, 138), (206, 150, 112), (156, 120, 164))[k]
        for lean in (-0.7, -0.3, 0.1, 0.5):
            tip = 26 + 24 * rng.random()
            draw.line((x, y, x + lean * tip, y - tip), fill=colour, width=7)
            draw.ellipse(
                (x + lean * tip - 5, y - tip - 5, x + lean * tip + 5, y - tip + 5), fill=colour
            )


_BOOKS: tuple[Colour, ...] = (
    (178, 120, 104),
    (120, 144, 152),
    (196, 172, 120),
    (140, 150, 116),
    (160, 132, 150),
)


def shelf(draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int]) -> None:
    """A shelf of books on the wall."""
    width, height = size
    x, y = rng.uniform(0.02, 0.6) * width, rng.uniform(0.2, 0.45) * height
    length = rng.uniform(0.25, 0.4) * width
    draw.rectangle((x, y, x + length, y + 8), fill=(172, 134, 98))
    at = x + 8
    for k, (thick, tall) in enumerate(rng.random((14, 2)).tolist()):
        wide, high = 8 + 9 * thick, 28 + 20 * tall
        if at + wide > x + length - 6:
            break
        colour = _BOOKS[(k * 3 + int(10 * tall)) % len(_BOOKS)]
        draw.rectangle((at, y - high, at + wide, y - 1), fill=colour)
        draw.line(
            (at + 2, y - high + 8, at + wide - 2, y - high + 8), fill=(232, 222, 200), width=2
        )
        at += wide + 1


def rug(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], level: float
) -> None:
    width, height = size
    x, y = rng.uniform(0.1, 0.5) * width, (level + 0.3 * (1 - level)) * height
    w, h = 0.42 * width, 0.5 * (1 - level) * height
    for k, colour in enumerate(((168, 118, 112), (214, 192, 164), (134, 142, 150))):
        g = k * 9
        far, near = y + g * 0.6, y + h - g * 0.6
        edge = (x + 20 + g, far, x + w - 20 - g, far)
        draw.polygon((*edge, x + w - 1.5 * g, near, x + 1.5 * g, near), fill=colour)


def floor(draw: ImageDraw.ImageDraw, size: tuple[int, int], level: float, wood: Colour) -> None:
    width, height = size
    y = level * height
    draw.rectangle((0, y, width, height), fill=wood)
    dark = (wood[0] - 26, wood[1] - 26, wood[2] - 26)
    draw.rectangle((0, y - 16, width, y), fill=(246, 240, 228))
    draw.line((0, y, width, y), fill=dark, width=3)
    step = height * (1 - level) / 4
    for k in range(1, 5):
        draw.line((0, y + k * step, width, y + k * step), fill=dark, width=2)
        for j in range(4):
            x = (j + (k % 3) * 0.37) * width / 3.2
            draw.line((x, y + (k - 1) * step, x, y + k * step), fill=dark, width=2)


def furnish(
    draw: ImageDraw.ImageDraw, rng: np.random.Generator, size: tuple[int, int], wood: Colour
) -> None:
    level = rng.uniform(0.64, 0.78)
    floor(draw, size, level, wood)
    if rng.random() < 0.6:
        rug(draw, rng, size, level)
    if rng.random() < 0.7:
        shelf(draw, rng, size)
