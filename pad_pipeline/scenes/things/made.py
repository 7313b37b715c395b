"""Drawings of things that people make: house, sailboat, beach ball, brick wall, car and more."""

from __future__ import annotations

import math

import numpy as np

from pad_pipeline.scenes.things.pen import Colour, Pen, band, shade, smooth

WHITE = (252, 250, 244)
DARK = (56, 52, 62)
GLASS = (186, 222, 238)
WOOD = (164, 112, 70)


def house(pen: Pen, main: Colour, second: Colour) -> None:
    pen.rect(0.68, 0.10, 0.80, 0.36, (170, 104, 84))
    pen.rect(0.13, 0.42, 0.87, 0.96, main)
    for y in (0.56, 0.68, 0.80, 0.92):
        pen.line(((0.145, y), (0.855, y)), 0.012, shade(main, -0.14))
    pen.shape(((0.03, 0.47), (0.30, 0.07), (0.70, 0.07), (0.97, 0.47)), second)
    for y, x in ((0.17, 0.25), (0.27, 0.18), (0.37, 0.12)):
        pen.line(((x, y), (1 - x, y)), 0.02, shade(second, -0.22))
    for x in (0.20, 0.64):
        pen.rect(x, 0.55, x + 0.17, 0.75, GLASS, ink=WHITE)
        pen.line(((x + 0.085, 0.55), (x + 0.085, 0.75)), 0.022, WHITE)
        pen.line(((x, 0.65), (x + 0.17, 0.65)), 0.022, WHITE)
        pen.rect(x - 0.015, 0.76, x + 0.185, 0.80, WOOD, ink=False)
    pen.rect(0.42, 0.60, 0.59, 0.96, WOOD)
    pen.ellipse(0.55, 0.79, 0.02, fill=(250, 214, 90))


def sailboat(pen: Pen, main: Colour, second: Colour) -> None:
    pen.rect(0.475, 0.04, 0.525, 0.72, WOOD)
    pen.shape(((0.53, 0.07), (0.53, 0.69), (0.94, 0.69), (0.79, 0.34)), WHITE)
    pen.shape(((0.545, 0.42), (0.82, 0.42), (0.875, 0.55), (0.545, 0.55)), second, ink=False)
    pen.shape(((0.47, 0.15), (0.47, 0.69), (0.11, 0.69), (0.24, 0.44)), shade(WHITE, -0.06))
    pen.shape(((0.455, 0.42), (0.27, 0.42), (0.20, 0.55), (0.455, 0.55)), second, ink=False)
    pen.shape(((0.04, 0.70), (0.96, 0.70), (0.82, 0.95), (0.20, 0.95)), main)
    pen.shape(((0.06, 0.71), (0.94, 0.71), (0.91, 0.77), (0.09, 0.77)), shade(main, 0.5), ink=False)
    for x in (0.30, 0.50, 0.70):
        pen.ellipse(x, 0.86, 0.035, fill=GLASS, ink=WHITE)


def _wedge(a0: float, a1: float) -> np.ndarray:
    pole = np.array([0.42, 0.38])
    t = np.linspace(a0, a1, 9)
    rim = np.stack([0.5 + 0.44 * np.cos(t), 0.5 + 0.44 * np.sin(t)], axis=1)
    # Bowed seams make the disc read as a sphere.
    bow = np.array([-np.sin(a0), np.cos(a0)]) * 0.06
    bow_end = np.array([-np.sin(a1), np.cos(a1)]) * 0.06
    start, end = (pole + rim[0]) / 2 + bow, (pole + rim[-1]) / 2 + bow_end
    return np.concatenate([[pole, start], rim, [end]])


_WEDGES = tuple(_wedge(k * math.pi / 3 + 0.2, (k + 1) * math.pi / 3 + 0.2) for k in range(6))


def beach_ball(pen: Pen, main: Colour, second: Colour) -> None:
    pen.ellipse(0.5, 0.5, 0.46, fill=WHITE, ink=True)
    for k, wedge in enumerate(_WEDGES):
        if k % 2 == 0:
            pen.shape(wedge, second if k == 2 else main, ink=False)
    pen.ellipse(0.42, 0.38, 0.085, fill=WHITE, ink=True)
    pen.ellipse(0.66, 0.24, 0.08, 0.045, fill=WHITE, turn=40)


_ENVELOPE = smooth(
    (
        (0.50, 0.02),
        (0.72, 0.08),
        (0.87, 0.27),
        (0.84, 0.48),
        (0.64, 0.72),
        (0.50, 0.745),
        (0.36, 0.72),
        (0.16, 0.48),
        (0.13, 0.27),
        (0.28, 0.08),
    )
)


def _gore(u0: float, u1: float) -> np.ndarray:
    """The part of the envelope between two meridians."""
    half = _ENVELOPE[: len(_ENVELOPE) // 2 + 1]
    left = np.stack([0.5 + (half[:, 0] - 0.5) * u0, half[:, 1]], axis=1)
    right = np.stack([0.5 + (half[:, 0] - 0.5) * u1, half[:, 1]], axis=1)
    return np.concatenate([left, right[::-1]])


_GORES = (_gore(-0.97, -0.62), _gore(-0.2, 0.2), _gore(0.62, 0.97))


def balloon(pen: Pen, main: Colour, second: Colour) -> None:
    pen.shape(((0.38, 0.70), (0.62, 0.70), (0.58, 0.84), (0.42, 0.84)), shade(second, -0.1))
    pen.line(((0.46, 0.72), (0.47, 0.83)), 0.03, DARK)
    pen.line(((0.54, 0.72), (0.53, 0.83)), 0.03, DARK)
    pen.shape(_ENVELOPE, main)
    for gore in _GORES:
        pen.shape(gore, second, ink=False)
    pen.rect(0.39, 0.82, 0.61, 0.97, WOOD)
    pen.line(((0.40, 0.87), (0.60, 0.87)), 0.02, shade(WOOD, -0.3))
    pen.line(((0.40, 0.92), (0.60, 0.92)), 0.02, shade(WOOD, -0.3))


def brick_wall(pen: Pen, main: Colour, second: Colour) -> None:
    left, right, top, row = 0.03, 0.97, 0.24, 0.115
    pen.rect(left, top, right, top + 5 * row, shade(second, 0.1))
    gap, brick = 0.022, 0.235
    tints = (0.0, 0.16, -0.12, 0.07, -0.2)
    for r in range(5):
        x = left - (brick / 2 if r % 2 else 0.0)
        k = r * 2
        while x < right - 0.02:
            x0, x1 = max(x + gap / 2, left + 0.01), min(x + brick - gap / 2, right - 0.01)
            y = top + r * row
            if x1 - x0 > 0.02:
                fill = shade(main, tints[k % 5])
                pen.rect(x0, y + gap / 2, x1, y + row - gap / 2, fill, ink=False)
            x += brick
            k += 1
    pen.rect(0.01, top - 0.08, 0.99, top + 0.01, second)


_CAR = smooth(
    (
        (0.03, 0.62),
        (0.07, 0.52),
        (0.22, 0.47),
        (0.32, 0.30),
        (0.45, 0.25),
        (0.62, 0.26),
        (0.74, 0.36),
        (0.82, 0.47),
        (0.94, 0.52),
        (0.97, 0.64),
        (0.94, 0.72),
        (0.5, 0.73),
        (0.06, 0.72),
    )
)


def car(pen: Pen, main: Colour, second: Colour) -> None:
    pen.shape(_CAR, main)
    pen.shape(((0.30, 0.47), (0.37, 0.33), (0.50, 0.305), (0.50, 0.47)), GLASS)
    pen.shape(((0.55, 0.47), (0.55, 0.305), (0.63, 0.32), (0.72, 0.41), (0.74, 0.47)), GLASS)
    pen.rect(0.08, 0.60, 0.92, 0.645, second, ink=False)
    pen.line(((0.525, 0.49), (0.525, 0.69)), 0.015, shade(main, -0.35))
    pen.line(((0.57, 0.535), (0.63, 0.535)), 0.025, shade(main, -0.45))
    pen.ellipse(0.92, 0.565, 0.035, fill=(255, 236, 140), ink=True)
    pen.ellipse(0.07, 0.58, 0.028, fill=(226, 80, 64), ink=True)
    for x in (0.25, 0.76):
        pen.ellipse(x, 0.72, 0.125, fill=DARK)
        pen.ellipse(x, 0.72, 0.065, fill=(206, 208, 212))
        pen.ellipse(x, 0.72, 0.025, fill=DARK)


_SCALLOPS = tuple(
    (0.5 - 0.46 + 0.92 * k / 16, 0.50 - 0.045 * abs(math.sin(math.pi * k / 4))) for k in range(17)
)
_DOME = tuple(
    (0.5 + 0.46 * math.cos(a), 0.50 - 0.42 * math.sin(a)) for a in np.linspace(0, math.pi, 24)
)
_HOOK = tuple(
    (0.57 + 0.07 * math.cos(a), 0.87 + 0.07 * math.sin(a)) for a in np.linspace(3.14, 0, 8)
)


def umbrella(pen: Pen, main: Colour, second: Colour) -> None:
    pen.tube(((0.50, 0.10), (0.50, 0.87), *_HOOK), 0.075, WOOD)
    pen.tube(((0.50, 0.05), (0.50, 0.12)), 0.05, WOOD)
    pen.shape(np.array(_DOME + _SCALLOPS), main)
    for u0, u1 in ((-0.96, -0.5), (0.0, 0.5)):
        piece = band(0.5, 0.5, 0.45, 0.405, u0, u1, 1.0)
        upper = piece[piece[:, 1] < 0.475]
        pen.shape(upper, second, ink=False)
    pen.line(_SCALLOPS, 0.022, pen.ink)


_HULL = smooth(
    (
        (0.50, 0.02),
        (0.63, 0.16),
        (0.69, 0.36),
        (0.68, 0.58),
        (0.62, 0.76),
        (0.38, 0.76),
        (0.32, 0.58),
        (0.31, 0.36),
        (0.37, 0.16),
    )
)
_NOSE = smooth(
    ((0.50, 0.03), (0.57, 0.08), (0.645, 0.21), (0.5, 0.235), (0.355, 0.21), (0.43, 0.08))
)
_FLAME = smooth(((0.40, 0.76), (0.60, 0.76), (0.62, 0.86), (0.50, 0.98), (0.38, 0.86)))
_FLAME_IN = smooth(((0.45, 0.76), (0.55, 0.76), (0.55, 0.84), (0.50, 0.90), (0.45, 0.84)))


def rocket(pen: Pen, main: Colour, second: Colour) -> None:
    pen.shape(_FLAME, (244, 138, 48), ink=(196, 84, 40))
    pen.shape(_FLAME_IN, (255, 226, 110), ink=False)
    pen.shape(((0.34, 0.48), (0.14, 0.70), (0.15, 0.86), (0.37, 0.74)), main)
    pen.shape(((0.66, 0.48), (0.86, 0.70), (0.85, 0.86), (0.63, 0.74)), main)
    pen.shape(_HULL, (238, 240, 242))
    pen.shape(_NOSE, main)
    pen.rect(0.345, 0.63, 0.655, 0.69, second, ink=False)
    pen.ellipse(0.50, 0.38, 0.105, fill=second, ink=True)
    pen.ellipse(0.50, 0.38, 0.075, fill=(120, 190, 226))
    pen.ellipse(0.475, 0.355, 0.028, fill=WHITE)
    pen.rect(0.40, 0.735, 0.60, 0.785, DARK, ink=False)


_HOUSING = smooth(
    (
        (0.30, 0.05),
        (0.36, 0.02),
        (0.64, 0.02),
        (0.70, 0.05),
        (0.71, 0.35),
        (0.71, 0.65),
        (0.70, 0.94),
        (0.64, 0.98),
        (0.36, 0.98),
        (0.30, 0.94),
        (0.29, 0.65),
        (0.29, 0.35),
    )
)


def traffic_light(pen: Pen, main: Colour, second: Colour) -> None:
    for y in (0.10, 0.41, 0.72):
        pen.shape(((0.30, y), (0.16, y + 0.02), (0.30, y + 0.16)), second)
        pen.shape(((0.70, y), (0.84, y + 0.02), (0.70, y + 0.16)), second)
    pen.shape(_HOUSING, main)
    lamps = ((0.19, (232, 70, 58)), (0.50, (250, 196, 60)), (0.81, (82, 190, 100)))
    for y, colour in lamps:
        pen.ellipse(0.50, y, 0.135, fill=shade(DARK, -0.3))
        pen.ellipse(0.50, y, 0.115, fill=colour)
        pen.ellipse(0.46, y - 0.045, 0.035, fill=shade(colour, 0.6))


_CONE = ((0.27, 0.50), (0.73, 0.50), (0.50, 0.98))


def ice_cream(pen: Pen, main: Colour, second: Colour) -> None:
    waffle = (226, 172, 104)
    pen.shape(_CONE, waffle)
    for k in (0.25, 0.5, 0.75):
        for side in (-1, 1):
            rim, edge = 0.5 + side * (0.23 - 0.46 * k), 0.5 - side * 0.23 * k
            pen.line(((rim, 0.50), (edge, 0.98 - 0.48 * k)), 0.018, (182, 122, 66))
    pen.line((_CONE[0], _CONE[2], _CONE[1]), 0.022, pen.ink)
    pen.blobs(
        ((0.50, 0.27, 0.19), (0.36, 0.42, 0.16), (0.64, 0.42, 0.16), (0.50, 0.46, 0.15)), main
    )
    pen.ellipse(0.50, 0.24, 0.14, 0.10, fill=second)
    pen.ellipse(0.35, 0.38, 0.06, 0.045, fill=shade(main, 0.4), turn=-25)
    for k, (x, y) in enumerate(
        (
            (0.42, 0.24),
            (0.50, 0.28),
            (0.58, 0.22),
            (0.38, 0.47),
            (0.52, 0.42),
            (0.66, 0.40),
            (0.60, 0.49),
        )
    ):
        colour = ((250, 214, 80), (96, 176, 226), (250, 250, 250))[k % 3]
        pen.line(((x - 0.02, y - 0.012), (x + 0.02, y + 0.012)), 0.026, colour)
    pen.ellipse(0.50, 0.09, 0.07, fill=(214, 44, 58), ink=True)
    pen.ellipse(0.48, 0.07, 0.018, fill=WHITE)
