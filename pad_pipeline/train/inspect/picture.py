"""One training sample as a picture: its frame, the patches of its regions, its tokens."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.drawing.colours import tag_colour
from pad_pipeline.train.regions import covered_tokens

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PAPER, _INK, _SOFT, _LINE = "#faf9f6", "#22252b", "#767b85", "#d9d6ce"
_LEARNT, _LEARNT_PAPER, _GIVEN_PAPER = "#17603f", "#d5eee0", "#efede8"

# All lengths in inches; the figure is laid out from its top left corner.
_DPI = 120
_WIDTH, _MARGIN, _GAP = 13.0, 0.45, 0.3
_PICTURE, _TITLES = 4.75, 0.62
_LEGEND_ROW, _MAX_LEGEND_ROWS, _LONGEST_TAG = 0.265, 17, 17
_TOKENS_HEAD, _TOKEN_ROW, _TOKEN_SIZE = 0.8, 0.285, 9.5
_CHARACTER = 0.61 * _TOKEN_SIZE / 72
"""Width in DejaVu Sans Mono: 0.602 of the size, a little more where drawn in whole pixels."""
_PILL_PADDING, _PILL_GAP = 0.055, 0.045
_LONGEST_TOKEN = 60

_READABLE = {"Ġ": "▁", "Ċ": "⏎", "<0x0A>": "⏎", "\n": "⏎", "\t": "⇥"}
"""How tokenizers spell white space -> how it is shown; a space before a word is always ▁."""


def draw_sample(
    pixels: NDArray[np.uint8],
    coverage_RP: NDArray[np.floating],
    tags: Sequence[str],
    tokens: Sequence[tuple[str, bool]],
    path: str | Path,
) -> None:
    """Write a PNG (a path or fsspec URL) of one sample as the model sees it.

    `pixels` is the frame, HWC uint8 RGB before normalisation. `coverage_RP` (R, grid²) says for
    each region which fraction of each patch it covers, 0–1, row-major; patches covered by at least
    half are tinted in the colour of the region's tag. `tokens` are the strings of the sequence in
    order, each with whether its prediction is supervised. Raises `UserError` where the file cannot
    be written, `ValueError` where the shapes do not fit each other.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    covered = _covered_patches(coverage_RP, tags)
    rows = _wrapped(tokens, _WIDTH - 2 * _MARGIN)
    top = _MARGIN + _TITLES + _PICTURE
    height = top + _TOKENS_HEAD + _TOKEN_ROW * len(rows) + _MARGIN - 0.15
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    left, right = _MARGIN, _MARGIN + _PICTURE + _GAP
    frame_height, frame_width = pixels.shape[:2]
    _title(figure, left, "The frame", f"{frame_width}×{frame_height} pixels")
    _picture(figure, left, pixels)
    grid = covered.shape[1]
    num_seen = int(covered.any(axis=(1, 2)).sum())
    _title(
        figure,
        right,
        "Patches at least half covered",
        f"{grid}×{grid}, {num_seen} of {len(tags)} regions have one",
    )
    _regions(_picture(figure, right, pixels), covered, tags, pixels.shape)
    _legend(figure, right + _PICTURE + _GAP, covered, tags)
    _tokens(figure, top, rows, tokens)
    file = io.BytesIO()
    figure.savefig(file, format="png", facecolor=_PAPER)
    storage.write_atomic(str(path), file.getvalue())


def _covered_patches(coverage_RP: NDArray[np.floating], tags: Sequence[str]) -> NDArray[np.bool_]:
    """(R, grid, grid) bool: at least half of the patch lies in the region."""
    coverage = np.asarray(coverage_RP)
    grid = math.isqrt(coverage.shape[-1])
    if coverage.ndim != 2 or len(coverage) != len(tags) or grid < 1 or grid**2 != coverage.shape[1]:
        raise ValueError(
            f"coverage of shape {coverage.shape} for {len(tags)} tags: expected one row for each "
            "tag and a square number of patches"
        )
    covered = covered_tokens(torch.tensor(coverage)).numpy()
    return covered.reshape(len(tags), grid, grid)


def _colour(tag: str) -> NDArray[np.float64]:
    return np.array(tag_colour(tag)) / 255


def _text(place: Figure | Axes, x: float, y: float, text: str, **style) -> None:
    # parse_math: a caption's $ is a dollar
    place.text(x, y, text, **{"color": _INK, "va": "center", "parse_math": False, **style})


def _at(figure: Figure, x: float, down: float) -> tuple[float, float]:
    """Inches from the left and from the top -> the figure's own coordinates."""
    width, height = figure.get_size_inches()
    return x / width, 1 - down / height


def _axes(figure: Figure, x: float, down: float, width: float, height: float) -> Axes:
    """Axes without frame, `height` inches high with their top `down` inches from the figure's."""
    (left, bottom), size = _at(figure, x, down + height), figure.get_size_inches()
    axes = figure.add_axes((left, bottom, width / size[0], height / size[1]))
    axes.set_axis_off()
    return axes


def _title(figure: Figure, x: float, title: str, note: str) -> None:
    _text(figure, *_at(figure, x, _MARGIN + 0.1), title, size=14, weight="bold")
    _text(figure, *_at(figure, x, _MARGIN + 0.38), note, size=10, color=_SOFT)


def _picture(figure: Figure, x: float, pixels: NDArray[np.uint8]) -> Axes:
    axes = _axes(figure, x, _MARGIN + _TITLES, _PICTURE, _PICTURE)
    height, width = pixels.shape[:2]
    axes.imshow(pixels, extent=(0, width, height, 0), interpolation="nearest")
    return axes


def _regions(
    axes: Axes, covered: NDArray[np.bool_], tags: Sequence[str], shape: tuple[int, ...]
) -> None:
    """The grid, and each region's patches tinted, outlined and numbered as in the legend."""
    from matplotlib.collections import LineCollection

    (height, width), grid = shape[:2], covered.shape[1]
    step = np.array([width, height]) / grid
    whole = (0, width, height, 0)
    # A veil first: tints are told apart on a pale picture more easily than on a colourful one.
    axes.imshow(np.full((1, 1, 4), (1, 1, 1, 0.35)), extent=whole)
    at = np.arange(grid + 1)
    straight = [((a, 0), (a, grid)) for a in at] + [((0, a), (grid, a)) for a in at]
    axes.add_collection(
        LineCollection(np.array(straight) * step, colors="black", linewidths=0.4, alpha=0.18)
    )
    for tag, patches in zip(tags, covered, strict=True):
        axes.imshow(
            np.dstack([np.broadcast_to(_colour(tag), (grid, grid, 3)), 0.55 * patches]),
            extent=whole,
            interpolation="nearest",
        )
    for tag, patches in zip(tags, covered, strict=True):
        outline = np.array(_outline(patches)).reshape(-1, 2, 2) * step
        dark = _colour(tag) * 0.62
        axes.add_collection(LineCollection(outline, colors=dark, linewidths=1.8, capstyle="round"))
    for number, (tag, patches) in enumerate(zip(tags, covered, strict=True), 1):
        if patches.any():
            x, y = (_middle(patches) + 0.5) * step
            _badge(axes, x, y, number, tag)


def _outline(patches: NDArray[np.bool_]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """((x, y), (x, y)) in patches: the sides of covered patches whose other side is not covered."""
    padded = np.pad(patches, 1)
    upright = np.argwhere(padded[1:-1, 1:] != padded[1:-1, :-1])
    level = np.argwhere(padded[1:, 1:-1] != padded[:-1, 1:-1])
    return [((x, y), (x, y + 1)) for y, x in upright] + [((x, y), (x + 1, y)) for y, x in level]


def _middle(patches: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(x, y) of the covered patch nearest to the centre of all: a ring's centre is outside it."""
    found = np.argwhere(patches)[:, ::-1]
    return found[((found - found.mean(axis=0)) ** 2).sum(axis=1).argmin()]


def _badge(axes: Axes, x: float, y: float, number: int, tag: str) -> None:
    _text(
        axes,
        x,
        y,
        str(number),
        size=8.5,
        weight="bold",
        color="white",
        ha="center",
        bbox={
            "boxstyle": "circle,pad=0.25",
            "facecolor": _colour(tag) * 0.55,
            "edgecolor": "white",
        },
    )


def _legend(figure: Figure, x: float, covered: NDArray[np.bool_], tags: Sequence[str]) -> None:
    _title(figure, x, "Regions", "number, tag, patches")
    width = _WIDTH - _MARGIN - x
    axes = _axes(figure, x, _MARGIN + _TITLES, width, _PICTURE)
    axes.set(xlim=(0, width), ylim=(_PICTURE, 0))
    if not tags:
        _text(axes, 0, 0.15, "none", size=10.5, color=_SOFT, style="italic")
    shown = len(tags) if len(tags) <= _MAX_LEGEND_ROWS else _MAX_LEGEND_ROWS - 1
    for row, (tag, patches) in enumerate(zip(tags[:shown], covered[:shown], strict=True)):
        y, count = 0.15 + row * _LEGEND_ROW, int(patches.sum())
        name = _readable(tag, _LONGEST_TAG)
        if count:
            _badge(axes, 0.13, y, row + 1, tag)
            _text(axes, 0.36, y, name, size=10.5)
        else:
            _text(axes, 0.13, y, str(row + 1), size=8.5, color=_SOFT, ha="center")
            _text(axes, 0.36, y, name, size=10.5, color=_SOFT, style="italic")
        _text(axes, width, y, str(count) if count else "none", size=10, color=_SOFT, ha="right")
    if shown < len(tags):
        y = 0.15 + shown * _LEGEND_ROW
        _text(axes, 0.36, y, f"and {len(tags) - shown} more", size=10, color=_SOFT)


_Row = list[tuple[float, str, bool]]


def _wrapped(tokens: Sequence[tuple[str, bool]], width: float) -> list[_Row]:
    """Rows of (x in inches, text, supervised); equal neighbours that repeat become one with ×N."""
    rows: list[_Row] = [[]]
    x, index = 0.0, 0
    while index < len(tokens):
        end = index
        while end < len(tokens) and tokens[end] == tokens[index]:
            end += 1
        token, supervised = tokens[index]
        repeats = end - index if end - index > 3 else 1
        text = _readable(token, _LONGEST_TOKEN) + (f" ×{repeats}" if repeats > 1 else "")
        taken = _pill_width(text)
        if rows[-1] and x + taken > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, text, supervised))
        x += taken + _PILL_GAP
        index += repeats
    return rows


def _pill_width(text: str) -> float:
    return len(text) * _CHARACTER + 2 * _PILL_PADDING


def _readable(text: str, longest: int) -> str:
    """`text` with visible white space, and what the font cannot show as its code point."""
    for spelled, shown in _READABLE.items():
        text = text.replace(spelled, shown)
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    has = _characters_of_font()
    return "".join(c if ord(c) in has else f"\\u{ord(c):04x}" for c in text)


def _characters_of_font() -> frozenset[int]:
    """What both of our fonts can draw (matplotlib caches the files)."""
    from matplotlib.font_manager import findfont, get_font

    return frozenset.intersection(
        *(frozenset(get_font(findfont(name)).get_charmap()) for name in _FONTS)
    )


_FONTS = ("DejaVu Sans Mono", "DejaVu Sans Mono:bold", "DejaVu Sans")


def _tokens(
    figure: Figure, top: float, rows: list[_Row], tokens: Sequence[tuple[str, bool]]
) -> None:
    from matplotlib.patches import FancyBboxPatch

    learnt = sum(supervised for _, supervised in tokens)
    _text(figure, *_at(figure, _MARGIN, top + 0.34), "Tokens", size=14, weight="bold")
    key = f"{len(tokens):,} in all; the model learns to predict the {learnt:,} in green"
    if not learnt:
        key = f"{len(tokens):,} in all; none is supervised"
    _text(figure, *_at(figure, _MARGIN + 0.95, top + 0.35), key, size=10, color=_SOFT)
    width, height = _WIDTH - 2 * _MARGIN, _TOKEN_ROW * len(rows)
    axes = _axes(figure, _MARGIN, top + _TOKENS_HEAD - 0.15, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    for number, row in enumerate(rows):
        y = (number + 0.5) * _TOKEN_ROW
        for x, text, supervised in row:
            taken = _pill_width(text)
            axes.add_patch(
                FancyBboxPatch(
                    (x, y - 0.105),
                    taken,
                    0.21,
                    boxstyle="round,pad=0,rounding_size=0.045",
                    facecolor=_LEARNT_PAPER if supervised else _GIVEN_PAPER,
                    edgecolor="none",
                )
            )
            _text(
                axes,
                x + _PILL_PADDING,
                y + 0.008,
                text,
                family="DejaVu Sans Mono",
                size=_TOKEN_SIZE,
                weight="bold" if supervised else "normal",
                color=_LEARNT if supervised else _SOFT,
            )
