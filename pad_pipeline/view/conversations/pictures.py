"""Pictures of an entry: its frame with the regions, its indices and its colours."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pad_pipeline.cognition.answers import as_grid, read_indices, read_rgb
from pad_pipeline.geometry import geometry

_SIDE = 336
"""Pixels along the longer side of a picture."""
_GOLDEN = 0.6180339887498949
_RIM = {"high": (255, 255, 255), "low": (20, 20, 20)}


def draw_frame(
    pixels: NDArray[np.uint8], settings: Mapping[str, Any], notes: Sequence[Mapping[str, Any]]
) -> bytes:
    """The image in the frame of the questions, their regions outlined, as PNG."""
    height, width = pixels.shape[:2]
    frame = geometry(settings["geometry"], width, height, settings["size"]).apply(pixels)
    scale = _SIDE / settings["size"]
    picture = Image.fromarray(frame).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(picture)
    for note in notes:
        x0, y0, x1, y1 = (round(side * scale) for side in note["box"])
        inset = 0 if note["level"] == "high" else 2
        box = (x0 + inset, y0 + inset, x1 - 1 - inset, y1 - 1 - inset)
        pen.rectangle(box, outline=_RIM[note["level"]], width=2)
    return _png(picture)


def draw_indices(answer: str, grid: Sequence[int]) -> bytes:
    """A colour for each index, the same one wherever it stands, as PNG.

    Raises `AnswerError` where the answer is none.
    """
    indices = as_grid(read_indices(answer), *grid)
    found, places = np.unique(indices, return_inverse=True)
    colours = np.array([_colour(int(index)) for index in found], np.uint8)
    return _png(_enlarged(colours[places].reshape(*indices.shape, 3)))


def draw_decoded(
    answer: str,
    grid: Sequence[int],
    decode: Callable[[NDArray[np.integer]], NDArray[np.uint8]],
) -> bytes:
    """What a VQ model makes of the indices, as PNG.

    Raises `AnswerError` where the answer is none, `UserError` for indices past the codebook.
    """
    return _png(_enlarged(decode(as_grid(read_indices(answer), *grid))))


def draw_colours(answer: str, grid: Sequence[int]) -> bytes:
    """The RGB values of an answer, as PNG; raises `AnswerError` where it is none."""
    return _png(_enlarged(as_grid(read_rgb(answer), *grid)))


def _colour(index: int) -> tuple[int, int, int]:
    """Hues apart for neighbouring indices, in three steps of lightness."""
    hue, lightness = index * _GOLDEN % 1, (0.38, 0.54, 0.7)[index // 7 % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.62)
    return round(255 * red), round(255 * green), round(255 * blue)


def _enlarged(values: NDArray[np.uint8]) -> Image.Image:
    scale = max(1, _SIDE // max(values.shape[:2]))
    size = (values.shape[1] * scale, values.shape[0] * scale)
    return Image.fromarray(np.ascontiguousarray(values)).resize(size, Image.Resampling.NEAREST)


def _png(picture: Image.Image) -> bytes:
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    return sink.getvalue()
