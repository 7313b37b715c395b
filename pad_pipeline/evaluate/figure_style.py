"""What the figures share: colours, an empty page, images in units of patches, PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, SOFT, RULE = "#ffffff", "#22252b", "#767b85", "#e4e4e0"
GREEN, ROSE = "#2f9e77", "#d4475d"
LINES = ("#3c78b4", "#d1722f", "#2f9e77", "#8a5cc0", "#c8596b", "#64707f", "#a08a1c", "#2a9fb0")

Grid = int | tuple[int, int]
"""Patches of an image: side of a square grid, or (rows, columns)."""


def grid_shape(grid: Grid) -> tuple[int, int]:
    """(rows, columns)."""
    return (grid, grid) if isinstance(grid, int) else grid


def on_grid(values: ArrayLike, grid: Grid) -> NDArray:
    """(P,) values, of a tensor or array, row by row -> (rows, columns)."""
    rows, columns = grid_shape(grid)
    array = np.asarray(values)
    assert array.shape == (rows * columns,), (array.shape, grid)
    return array.reshape(rows, columns)


def new_page(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches with a canvas that needs no screen."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=120, facecolor=PAPER)
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file."""
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=figure.get_facecolor())
    return file.getvalue()


def shorten(text: str, longest: int) -> str:
    """The text, cut to `longest` characters with an ellipsis at its end."""
    return text if len(text) <= longest else text[: longest - 1] + "…"


def place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at inches from the page's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    bottom = page_height - top - height
    return figure.add_axes(
        (left / page_width, bottom / page_height, width / page_width, height / page_height)
    )


def write(figure: Figure, left: float, top: float, text: str, **style) -> None:
    """Text whose first line's middle stands at inches from the page's upper left corner."""
    page_width, page_height = figure.get_size_inches()
    style = {"color": INK, "va": "center", "parse_math": False, **style}
    figure.text(left / page_width, 1 - top / page_height, text, **style)


def show_image(axes: Axes, image_HWC: NDArray[np.uint8], grid: Grid, white: float = 0.0) -> None:
    """The image over the whole axes, in units of patches, mixed with a fraction of `white`."""
    rows, columns = grid_shape(grid)
    axes.set_axis_off()
    mixed = image_HWC * (1 - white) + 255 * white
    axes.imshow(
        np.asarray(mixed, dtype=np.uint8),
        extent=(0, columns, rows, 0),
        interpolation="antialiased",
        aspect="auto",
    )
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)


def tint(axes: Axes, mask: NDArray[np.bool_], colour: str, alpha: float) -> None:
    """Lay a colour over the patches of a (rows, columns) mask."""
    from matplotlib.colors import to_rgba

    layer = np.zeros((*mask.shape, 4))
    layer[mask] = to_rgba(colour, alpha)
    axes.imshow(
        layer, extent=(0, mask.shape[1], mask.shape[0], 0), interpolation="nearest", aspect="auto"
    )


def outline(axes: Axes, mask: NDArray[np.bool_], colour: str, width: float = 1.6) -> None:
    """Draw the border of a (rows, columns) mask of patches along the patches' sides."""
    from matplotlib.collections import LineCollection

    axes.add_collection(
        LineCollection(borders(mask), colors=colour, linewidths=width, capstyle="projecting")
    )


def borders(mask: NDArray[np.bool_]) -> Sequence[NDArray[np.float64]]:
    """The unit segments, each (2, 2) xy, between patches inside and outside of a mask."""
    padded = np.pad(mask, 1)
    y, x = np.nonzero(padded[1:, 1:-1] != padded[:-1, 1:-1])
    level = [np.array([[a, b], [a + 1, b]], float) for a, b in zip(x, y, strict=True)]
    y, x = np.nonzero(padded[1:-1, 1:] != padded[1:-1, :-1])
    upright = [np.array([[a, b], [a, b + 1]], float) for a, b in zip(x, y, strict=True)]
    return level + upright
