"""Drawings of living things and of the sky: tree, fish, mushroom, sun, apple, cloud and more."""

from __future__ import annotations

import math

from pad_pipeline.scenes.things.pen import Colour, Pen, band, shade, smooth

WHITE = (252, 250, 244)
DARK = (52, 44, 54)
LEAF = (96, 158, 72)


def _face(pen: Pen, cx: float, cy: float, size: float, ink: Colour, cheeks: Colour) -> None:
    for side in (-1, 1):
        pen.ellipse(cx + side * size * 0.42, cy - size * 0.12, size * 0.11, size * 0.15, fill=ink)
        pen.ellipse(
            cx + side * size * 0.66, cy + size * 0.22, size * 0.16, size * 0.11, fill=cheeks
        )
    smile = [
        (cx + size * 0.34 * math.sin(a), cy + size * (0.12 + 0.28 * math.cos(a)))
        for a in (-1.4, -0.9, -0.4, 0, 0.4, 0.9, 1.4)
    ]
    pen.line(smile, size * 0.09, ink)


def tree(pen: Pen, main: Colour, second: Colour) -> None:
    bark = (134, 92, 62)
    pen.shape(
        ((0.43, 0.55), (0.57, 0.55), (0.58, 0.86), (0.66, 0.98), (0.34, 0.98), (0.42, 0.86)), bark
    )
    pen.line(((0.49, 0.70), (0.48, 0.93)), 0.025, shade(bark, -0.3))
    crown = (
        (0.27, 0.48, 0.19),
        (0.73, 0.48, 0.19),
        (0.30, 0.27, 0.18),
        (0.70, 0.27, 0.18),
        (0.50, 0.18, 0.17),
        (0.50, 0.42, 0.25),
    )
    pen.blobs(crown, main)
    for x, y, r in ((0.33, 0.25, 0.10), (0.55, 0.16, 0.09), (0.24, 0.46, 0.08), (0.55, 0.39, 0.09)):
        pen.ellipse(x, y, r, r * 0.7, fill=shade(main, 0.22), turn=-20)
    for x, y in (
        (0.66, 0.28),
        (0.42, 0.36),
        (0.74, 0.50),
        (0.34, 0.54),
        (0.53, 0.55),
        (0.48, 0.23),
    ):
        pen.ellipse(x, y, 0.045, fill=second)


_FIN_TOP = smooth(((0.30, 0.32), (0.42, 0.13), (0.60, 0.20), (0.62, 0.34)))
_TAIL = smooth(((0.72, 0.50), (0.95, 0.22), (0.90, 0.50), (0.95, 0.78)))


def fish(pen: Pen, main: Colour, second: Colour) -> None:
    pen.shape(_TAIL, second)
    pen.shape(_FIN_TOP, second)
    pen.shape(((0.40, 0.70), (0.56, 0.70), (0.58, 0.86), (0.46, 0.82)), second)
    pen.ellipse(0.43, 0.50, 0.38, 0.25, fill=main, ink=True)
    for u0, u1 in ((-0.25, -0.05), (0.15, 0.35), (0.53, 0.71)):
        pen.shape(band(0.43, 0.50, 0.365, 0.235, u0, u1), second, ink=False)
    pen.ellipse(0.32, 0.66, 0.13, 0.03, fill=shade(main, 0.35), turn=8)
    pen.ellipse(0.21, 0.44, 0.065, fill=WHITE, ink=True)
    pen.ellipse(0.20, 0.45, 0.032, fill=DARK)
    pen.line(((0.08, 0.57), (0.14, 0.60), (0.19, 0.58)), 0.025, pen.ink)


_STEM = smooth(((0.40, 0.50), (0.60, 0.50), (0.63, 0.80), (0.66, 0.94), (0.34, 0.94), (0.37, 0.80)))
_CAP = smooth(
    (
        (0.05, 0.53),
        (0.12, 0.28),
        (0.32, 0.10),
        (0.5, 0.06),
        (0.68, 0.10),
        (0.88, 0.28),
        (0.95, 0.53),
    ),
)


def mushroom(pen: Pen, main: Colour, second: Colour) -> None:
    cream = (246, 232, 204)
    pen.shape(_STEM, cream)
    pen.ellipse(0.50, 0.66, 0.14, 0.045, fill=shade(cream, -0.12))
    pen.shape(_CAP, main)
    pen.ellipse(0.50, 0.555, 0.36, 0.05, fill=shade(cream, -0.08), ink=True)
    for x, y, rx, ry in (
        (0.48, 0.20, 0.10, 0.08),
        (0.26, 0.33, 0.075, 0.075),
        (0.70, 0.31, 0.085, 0.075),
        (0.48, 0.41, 0.07, 0.055),
        (0.15, 0.47, 0.045, 0.04),
        (0.83, 0.46, 0.05, 0.045),
    ):
        pen.ellipse(x, y, rx, ry, fill=second)


def sun(pen: Pen, main: Colour, second: Colour) -> None:
    for k in range(12):
        a, half = k * math.pi / 6, 0.20
        far = 0.49 if k % 2 == 0 else 0.43
        pen.shape(
            (
                (0.5 + 0.29 * math.cos(a - half), 0.5 + 0.29 * math.sin(a - half)),
                (0.5 + far * math.cos(a), 0.5 + far * math.sin(a)),
                (0.5 + 0.29 * math.cos(a + half), 0.5 + 0.29 * math.sin(a + half)),
            ),
            second,
        )
    pen.ellipse(0.5, 0.5, 0.31, fill=main, ink=True)
    pen.ellipse(0.46, 0.44, 0.20, fill=shade(main, 0.25))
    _face(pen, 0.5, 0.5, 0.27, (122, 66, 32), (250, 150, 110))


_APPLE = smooth(
    (
        (0.50, 0.27),
        (0.66, 0.20),
        (0.86, 0.30),
        (0.92, 0.52),
        (0.82, 0.80),
        (0.64, 0.95),
        (0.50, 0.91),
        (0.36, 0.95),
        (0.18, 0.80),
        (0.08, 0.52),
        (0.14, 0.30),
        (0.34, 0.20),
    )
)
_APPLE_SIDE = smooth(((0.82, 0.36), (0.88, 0.55), (0.78, 0.78), (0.63, 0.90), (0.76, 0.66)))
_APPLE_LEAF = smooth(((0.53, 0.20), (0.62, 0.06), (0.82, 0.03), (0.72, 0.17)))


def apple(pen: Pen, main: Colour, second: Colour) -> None:
    pen.shape(_APPLE, main)
    pen.shape(_APPLE_SIDE, second, ink=False)
    pen.ellipse(0.50, 0.285, 0.13, 0.04, fill=shade(main, -0.35))
    pen.line(((0.50, 0.29), (0.50, 0.17), (0.46, 0.07)), 0.055, (104, 70, 44))
    pen.shape(_APPLE_LEAF, LEAF)
    pen.ellipse(0.27, 0.44, 0.06, 0.12, fill=shade(main, 0.6), turn=20)


def cloud(pen: Pen, main: Colour, second: Colour) -> None:
    puffs = (
        (0.20, 0.58, 0.16),
        (0.37, 0.44, 0.18),
        (0.58, 0.40, 0.21),
        (0.80, 0.57, 0.17),
        (0.50, 0.60, 0.18),
        (0.34, 0.62, 0.14),
        (0.66, 0.62, 0.14),
    )
    pen.blobs(puffs, main)
    for x, y, r in (
        (0.24, 0.66, 0.075),
        (0.42, 0.69, 0.08),
        (0.60, 0.69, 0.08),
        (0.79, 0.65, 0.08),
    ):
        pen.ellipse(x, y, r * 1.25, r * 0.75, fill=second)
    for x, y, r in ((0.34, 0.40, 0.08), (0.54, 0.32, 0.09), (0.80, 0.50, 0.06)):
        pen.ellipse(x, y, r, r * 0.7, fill=shade(main, 0.6), turn=-20)


def flower(pen: Pen, main: Colour, second: Colour) -> None:
    pen.tube(((0.50, 0.40), (0.51, 0.70), (0.49, 0.95)), 0.065, LEAF)
    pen.ellipse(0.34, 0.80, 0.15, 0.065, fill=LEAF, ink=True, turn=28)
    pen.ellipse(0.66, 0.75, 0.15, 0.065, fill=shade(LEAF, 0.12), ink=True, turn=-28)
    for k in range(7):
        a = k * 2 * math.pi / 7 + 0.3
        x, y = 0.5 + 0.20 * math.cos(a), 0.32 + 0.20 * math.sin(a)
        pen.ellipse(x, y, 0.125, 0.085, fill=main, ink=True, turn=math.degrees(a))
        x, y = 0.5 + 0.15 * math.cos(a), 0.32 + 0.15 * math.sin(a)
        pen.ellipse(x, y, 0.065, 0.025, fill=shade(main, -0.22), turn=math.degrees(a))
    pen.ellipse(0.5, 0.32, 0.115, fill=second, ink=True)
    for x, y in (
        (0.46, 0.29),
        (0.54, 0.30),
        (0.50, 0.36),
        (0.44, 0.35),
        (0.56, 0.36),
        (0.50, 0.27),
    ):
        pen.ellipse(x, y, 0.018, fill=shade(second, -0.35))


_WING_TOP = smooth(
    ((0.50, 0.46), (0.60, 0.20), (0.82, 0.06), (0.96, 0.14), (0.92, 0.40), (0.74, 0.54))
)
_WING_LOW = smooth(
    ((0.50, 0.50), (0.72, 0.52), (0.87, 0.66), (0.82, 0.88), (0.66, 0.90), (0.54, 0.72))
)
_WING_IN = smooth(
    ((0.58, 0.42), (0.68, 0.24), (0.82, 0.15), (0.88, 0.24), (0.83, 0.38), (0.70, 0.47))
)


def butterfly(pen: Pen, main: Colour, second: Colour) -> None:
    edge = shade(main, -0.55)
    for side in (1, -1):

        def mirror(p, side=side):
            return (p - [0.5, 0.0]) * [side, 1] + [0.5, 0.0]

        pen.shape(mirror(_WING_LOW), shade(main, 0.3))
        pen.shape(mirror(_WING_TOP), edge)
        pen.shape(mirror(_WING_IN), main, ink=False)
        for x, y, r, colour in (
            (0.75, 0.30, 0.065, second),
            (0.92, 0.20, 0.022, WHITE),
            (0.90, 0.32, 0.022, WHITE),
            (0.70, 0.72, 0.075, second),
            (0.70, 0.72, 0.035, edge),
        ):
            pen.ellipse(0.5 + side * (x - 0.5), y, r, fill=colour)
    pen.ellipse(0.50, 0.55, 0.045, 0.27, fill=DARK)
    pen.ellipse(0.50, 0.27, 0.065, fill=DARK)
    for y in (0.48, 0.58, 0.68):
        pen.line(((0.47, y), (0.53, y)), 0.025, second)


_SLUG = smooth(
    (
        (0.02, 0.90),
        (0.10, 0.82),
        (0.40, 0.74),
        (0.68, 0.74),
        (0.76, 0.50),
        (0.86, 0.40),
        (0.97, 0.48),
        (0.96, 0.64),
        (0.88, 0.84),
        (0.74, 0.93),
        (0.40, 0.94),
    )
)
_SPIRAL = tuple(
    (
        0.42 + (0.255 - 0.021 * k * 0.5) * math.cos(0.5 * k + 0.6),
        0.50 + (0.255 - 0.021 * k * 0.5) * math.sin(0.5 * k + 0.6),
    )
    for k in range(23)
)


def snail(pen: Pen, main: Colour, second: Colour) -> None:
    skin = (236, 206, 150)
    for x in (0.83, 0.95):
        pen.tube(((x - 0.01, 0.46), (x, 0.27)), 0.05, skin)
        pen.ellipse(x, 0.26, 0.045, fill=DARK)
    pen.shape(_SLUG, skin)
    pen.ellipse(0.42, 0.50, 0.33, fill=main, ink=True)
    pen.ellipse(0.39, 0.46, 0.25, fill=shade(main, 0.18))
    pen.line(_SPIRAL, 0.06, second)
    pen.ellipse(0.89, 0.55, 0.026, fill=DARK)
    pen.line(((0.84, 0.65), (0.88, 0.68), (0.93, 0.65)), 0.024, pen.ink)


_OWL = smooth(
    (
        (0.20, 0.06),
        (0.36, 0.14),
        (0.50, 0.13),
        (0.64, 0.14),
        (0.80, 0.06),
        (0.84, 0.30),
        (0.86, 0.62),
        (0.74, 0.88),
        (0.50, 0.95),
        (0.26, 0.88),
        (0.14, 0.62),
        (0.16, 0.30),
    )
)


def owl(pen: Pen, main: Colour, second: Colour) -> None:
    for x in (0.38, 0.62):
        pen.ellipse(x, 0.94, 0.10, 0.04, fill=(238, 160, 60), ink=True)
    pen.shape(_OWL, main)
    pen.ellipse(0.50, 0.70, 0.25, 0.22, fill=second)
    for x, y in (
        (0.41, 0.62),
        (0.50, 0.62),
        (0.59, 0.62),
        (0.365, 0.71),
        (0.455, 0.71),
        (0.545, 0.71),
        (0.635, 0.71),
        (0.41, 0.80),
        (0.50, 0.80),
        (0.59, 0.80),
    ):
        pen.line(((x - 0.03, y - 0.015), (x, y + 0.02), (x + 0.03, y - 0.015)), 0.022, main)
    for side in (-1, 1):
        pen.ellipse(
            0.5 + side * 0.34, 0.62, 0.09, 0.24, fill=shade(main, -0.22), ink=True, turn=side * 8
        )
        pen.ellipse(0.5 + side * 0.155, 0.34, 0.16, fill=WHITE, ink=True)
        pen.ellipse(0.5 + side * 0.145, 0.35, 0.095, fill=(246, 190, 62))
        pen.ellipse(0.5 + side * 0.14, 0.35, 0.06, fill=DARK)
        pen.ellipse(0.5 + side * 0.14 - 0.02, 0.33, 0.02, fill=WHITE)
    pen.shape(((0.44, 0.42), (0.56, 0.42), (0.50, 0.54)), (238, 160, 60))
