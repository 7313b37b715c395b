"""A pen that draws flat shapes with outlines in a turned, flipped and scaled unit square."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLING = 3
_MARGIN = 1.5  # the canvas holds the unit square at any angle, outline included


@lru_cache(maxsize=8)
def _circle(corners: int) -> np.ndarray:
    angles = np.arange(corners) * (2 * math.pi / corners)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


@lru_cache(maxsize=512)
def smooth(points: tuple[Point, ...], steps: int = 6) -> np.ndarray:
    """A closed Catmull-Rom curve through `points`; (len(points) * steps, 2)."""
    p1 = np.asarray(points, dtype=np.float64)
    p0, p2, p3 = np.roll(p1, 1, 0), np.roll(p1, -1, 0), np.roll(p1, -2, 0)
    t = (np.arange(steps) / steps)[None, :, None]
    p0, p1, p2, p3 = (p[:, None, :] for p in (p0, p1, p2, p3))
    curve = 0.5 * (
        2 * p1
        + (p2 - p0) * t
        + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2
        + (3 * p1 - p0 - 3 * p2 + p3) * t**3
    )
    return curve.reshape(-1, 2)


@lru_cache(maxsize=512)
def band(
    cx: float, cy: float, rx: float, ry: float, u0: float, u1: float, bend: float = 0.0
) -> np.ndarray:
    """The slice of an ellipse between its relative abscissas u0 and u1 in [-1, 1]; (24, 2).

    With `bend` 1 the cuts are meridians, which all meet at the ellipse's poles.
    """
    t = np.linspace(-math.pi / 2, math.pi / 2, 12)

    def cut(u: float) -> np.ndarray:
        half = math.sqrt(max(0.0, 1 - u * u))
        straight = np.stack([np.full_like(t, u), np.sin(t) * half], axis=1)
        meridian = np.stack([u * np.cos(t), np.sin(t)], axis=1)
        return straight * (1 - bend) + meridian * bend

    outline = np.concatenate([cut(u0), cut(u1)[::-1]])
    return outline * [rx, ry] + [cx, cy]


def shade(colour: Colour, amount: float) -> Colour:
    """`colour` moved to white (amount > 0) or black (amount < 0)."""
    goal = 255 if amount > 0 else 0
    a = abs(amount)
    return (
        round(colour[0] + (goal - colour[0]) * a),
        round(colour[1] + (goal - colour[1]) * a),
        round(colour[2] + (goal - colour[2]) * a),
    )


class Pen:
    """Draws on a transparent supersampled canvas; coordinates are of the unit square, y down."""

    def __init__(self, side: float, degrees: float, flip: bool, ink: Colour) -> None:
        scale = side * SUPERSAMPLING
        pixels = math.ceil(side * _MARGIN) * SUPERSAMPLING
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.array([[cos, sin], [-sin, cos]])
        self._matrix = np.diag([-1.0 if flip else 1.0, 1.0]) @ turn * scale
        self._offset = np.array([pixels / 2, pixels / 2]) - np.array([0.5, 0.5]) @ self._matrix
        self._scale = scale
        self.ink = ink
        self.line_width = 0.022
        # X holds the alpha: Pillow averages RGBX as it is, RGBA only after slow conversions. The
        # ink under zero alpha keeps the colour of the edge when the canvas is averaged down.
        self._image = Image.new("RGBX", (pixels, pixels), (*ink, 0))
        self._draw = ImageDraw.Draw(self._image)

    def _place(self, points: np.ndarray | Sequence[Point]) -> list[float]:
        return (np.asarray(points) @ self._matrix + self._offset).ravel().tolist()

    def shape(
        self, points: np.ndarray | Sequence[Point], fill: Colour, ink: bool | Colour = True
    ) -> None:
        """A filled polygon, outlined unless `ink` is False."""
        flat = self._place(points)
        self._draw.polygon(flat, fill=fill)
        if ink is not False:
            colour = self.ink if ink is True else ink
            width = max(2, round(self.line_width * self._scale))
            joint = "curve" if len(flat) <= 24 else None
            self._draw.line(flat + flat[:4], fill=colour, width=width, joint=joint)

    def ellipse(
        self,
        cx: float,
        cy: float,
        rx: float,
        ry: float | None = None,
        fill: Colour = (0, 0, 0),
        ink: bool | Colour = False,
        turn: float = 0.0,
    ) -> None:
        """An ellipse turned by `turn` degrees; a circle without `ry`."""
        ry = rx if ry is None else ry
        circle = _circle(16 if max(rx, ry) < 0.07 else 36)
        cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
        axes = np.array([[cos, sin], [-sin, cos]])
        if ink is not False:
            wide = circle * [rx + self.line_width / 2, ry + self.line_width / 2] @ axes + [cx, cy]
            self._draw.polygon(self._place(wide), fill=self.ink if ink is True else ink)
            rx, ry = rx - self.line_width / 2, ry - self.line_width / 2
        self._draw.polygon(self._place(circle * [rx, ry] @ axes + [cx, cy]), fill=fill)

    def blobs(self, circles: Sequence[tuple[float, float, float]], fill: Colour) -> None:
        """The union of circles (cx, cy, r), outlined as one shape."""
        w = self.line_width
        for cx, cy, r in circles:
            self.ellipse(cx, cy, r + w / 2, fill=self.ink)
        for cx, cy, r in circles:
            self.ellipse(cx, cy, r - w / 2, fill=fill)

    def rect(
        self, x0: float, y0: float, x1: float, y1: float, fill: Colour, ink: bool | Colour = True
    ) -> None:
        self.shape(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), fill, ink)

    def line(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        pixels = max(2, round(width * self._scale))
        self._draw.line(self._place(points), fill=fill, width=pixels, joint="curve")

    def tube(self, points: Sequence[Point], width: float, fill: Colour) -> None:
        """A thick line with an outline and round ends."""
        for extra, colour in ((self.line_width, self.ink), (-self.line_width, fill)):
            self.line(points, width + extra, colour)
            for x, y in (points[0], points[-1]):
                self.ellipse(x, y, (width + extra) / 2, fill=colour)

    def picture(self) -> Image.Image:
        """The drawing at its final size, cropped to what is not transparent; RGBX, X is alpha."""
        small = self._image.reduce(SUPERSAMPLING)
        return small.crop(small.getchannel("X").getbbox())
