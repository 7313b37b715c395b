"""The tokens of a sample, in rows; those that are supervised stand out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pad_pipeline.train.inspect.page import (
    MARGIN,
    SOFT,
    WIDTH,
    add_axes,
    figure_point,
    readable,
    write,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TOKENS_HEAD, TOKEN_ROW = 0.8, 0.285

_SUPERVISED, _SUPERVISED_PAPER, _GIVEN_PAPER = "#17603f", "#d5eee0", "#efede8"
_TOKEN_SIZE = 9.5
_CHARACTER = 0.61 * _TOKEN_SIZE / 72
"""Width in DejaVu Sans Mono: 0.602 of the size, a little more where drawn in whole pixels."""
_PILL_PADDING, _PILL_GAP = 0.055, 0.045
_LONGEST_TOKEN = 60

Row = list[tuple[float, str, bool]]
"""(x in inches, text, supervised) of each token."""


def wrap_tokens(tokens: Sequence[tuple[str, bool]], width: float) -> list[Row]:
    """Rows of (x in inches, text, supervised); equal neighbours that repeat become one with ×N."""
    rows: list[Row] = [[]]
    x, index = 0.0, 0
    while index < len(tokens):
        end = index
        while end < len(tokens) and tokens[end] == tokens[index]:
            end += 1
        token, supervised = tokens[index]
        repeats = end - index if end - index > 3 else 1
        text = readable(token, _LONGEST_TOKEN) + (f" ×{repeats}" if repeats > 1 else "")
        taken = _pill_width(text)
        if rows[-1] and x + taken > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, text, supervised))
        x += taken + _PILL_GAP
        index += repeats
    return rows


def draw_tokens(
    figure: Figure, top: float, rows: list[Row], tokens: Sequence[tuple[str, bool]]
) -> None:
    from matplotlib.patches import FancyBboxPatch

    num_supervised = sum(supervised for _, supervised in tokens)
    write(figure, *figure_point(figure, MARGIN, top + 0.34), "Tokens", size=14, weight="bold")
    key = f"{len(tokens):,} in all; the model learns to predict the {num_supervised:,} in green"
    if not num_supervised:
        key = f"{len(tokens):,} in all; none is supervised"
    write(figure, *figure_point(figure, MARGIN + 0.95, top + 0.35), key, size=10, color=SOFT)
    width, height = WIDTH - 2 * MARGIN, TOKEN_ROW * len(rows)
    axes = add_axes(figure, MARGIN, top + TOKENS_HEAD - 0.15, width, height)
    axes.set(xlim=(0, width), ylim=(height, 0))
    for number, row in enumerate(rows):
        y = (number + 0.5) * TOKEN_ROW
        for x, text, supervised in row:
            taken = _pill_width(text)
            axes.add_patch(
                FancyBboxPatch(
                    (x, y - 0.105),
                    taken,
                    0.21,
                    boxstyle="round,pad=0,rounding_size=0.045",
                    facecolor=_SUPERVISED_PAPER if supervised else _GIVEN_PAPER,
                    edgecolor="none",
                )
            )
            write(
                axes,
                x + _PILL_PADDING,
                y + 0.008,
                text,
                family="DejaVu Sans Mono",
                size=_TOKEN_SIZE,
                weight="bold" if supervised else "normal",
                color=_SUPERVISED if supervised else SOFT,
            )


def _pill_width(text: str) -> float:
    return len(text) * _CHARACTER + 2 * _PILL_PADDING
