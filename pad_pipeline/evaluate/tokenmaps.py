"""The words that matching pursuit finds, one in every patch (paper, figures 1, 5 and 6)."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pad_pipeline.drawing.words import word_colours
from pad_pipeline.evaluate import figure_style
from pad_pipeline.evaluate.figure_style import Grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

_CELL, _WIDEST, _LEAST_WIDE = 0.46, 13.0, 6.4
"""Inches from patch to patch, and of a whole map at most and at least."""
_BAR = 0.26
"""Inches from bar to bar in the list of frequent words."""
_LARGEST, _SMALLEST = 0.48, 0.17
"""Font size at the largest similarity of the figure and at 0, as a share of the cell's height."""
_SMALL_LETTER = 0.55
"""Height of a small letter in font sizes."""
_NARROWEST = 0.62
"""How far a long word is squeezed before it is also made smaller."""
_BLACK = "#000000"


def tokenmap_figure(
    image_HWC: NDArray[np.uint8],
    grid: Grid,
    words: Sequence[Sequence[str]],
    similarities: ArrayLike,
    dictionary: Collection[str],
    title: str = "Tokenmap",
) -> Figure:
    """One map per iteration of the pursuit, each beside the map of its cosines.

    `words` is K lists of P vocabulary pieces, row by row of the grid, `similarities` (K, P) their
    cosines with what was left of the token, −1 to 1. The letters' size follows the cosine. Words
    of the `dictionary` (lower case) are in colour, one each for the most frequent over all maps;
    all other pieces are black. `image_HWC` is uint8 RGB as the vision tower sees it.
    """
    rows, columns = figure_style.grid_shape(grid)
    cosines = np.asarray(similarities, dtype=float)
    assert cosines.shape == (len(words), rows * columns), (cosines.shape, len(words), grid)
    shown = [[shown_piece(piece) for piece in row] for row in words]
    colours = word_colours(shown, dictionary)
    cell = min(max(_CELL, _LEAST_WIDE / columns), _WIDEST / columns)
    wide, high = columns * cell, rows * cell
    side = max(2.6, 0.34 * wide)
    left, top, head, gap, between = 0.4, 0.75, 0.42, 0.4, 0.35
    figure = figure_style.new_page(
        left + wide + gap + side + 0.75, top + len(words) * (head + high + between) + 0.05
    )
    figure_style.write(figure, left, 0.4, title, size=18, weight="bold")
    scale = max(float(cosines.max(initial=0.0)), 1e-6)
    for number, row in enumerate(shown):
        y = top + number * (head + high + between) + head
        is_word = [word.lower() in dictionary for word in row]
        figure_style.write(
            figure, left, y - 0.17, f"iteration {number + 1}", size=12, weight="bold"
        )
        share = f"{sum(is_word) / len(row):.0%} of the patches name a dictionary word"
        figure_style.write(
            figure, left + wide, y - 0.17, share, size=10, color=figure_style.SOFT, ha="right"
        )
        axes = figure_style.place(figure, left, y, wide, high)
        figure_style.show_image(axes, image_HWC, grid, white=0.84)
        _rule(axes, rows, columns)
        _set_words(axes, row, cosines[number], colours, columns, scale)

        x = left + wide + gap
        mean = f"cosine, mean {cosines[number].mean():.2f}"
        figure_style.write(figure, x, y - 0.17, mean, size=10, color=figure_style.SOFT)
        _cosine_map(figure, cosines[number].reshape(rows, columns), x, y, side, scale)
        picture = side * rows / columns
        room = high - picture - 0.3
        if number == 0 and room > picture + 3 * _BAR:
            thumb = figure_style.place(figure, x, y + high - picture, side, picture)
            figure_style.show_image(thumb, image_HWC, grid)
            room -= picture + 0.2
        _most_frequent(figure, row, colours, x, y + picture + 0.3, side, int(room / _BAR))
    return figure


def shown_piece(piece: str) -> str:
    """A vocabulary piece as it is drawn: without word marks, and only signs that the font has."""
    text = piece.replace("\u2581", " ").replace("\u0120", " ").replace("\u010a", "\n").strip(" ")
    if not text:
        return "␣"
    return "".join(
        sign if sign == " " or _is_drawn(sign) else "▯"
        for sign in text.replace("\n", "↵").replace("\t", "→")
    )


def _is_drawn(sign: str) -> bool:
    return ord(sign) in _signs() and unicodedata.category(sign)[0] not in "CZ"


def _set_words(
    axes: Axes,
    words: Sequence[str],
    cosines: NDArray[np.float64],
    colours: dict[str, str],
    columns: int,
    scale: float,
) -> None:
    from matplotlib.collections import PathCollection

    letters, fills = [], []
    for place, (word, cosine) in enumerate(zip(words, cosines.tolist(), strict=True)):
        share = min(max(cosine / scale, 0.0), 1.0)
        row, column = divmod(place, columns)
        letters.append(_fit(word, _SMALLEST + share * (_LARGEST - _SMALLEST), column, row))
        fills.append(colours.get(word, _BLACK))
    axes.add_collection(
        PathCollection(letters, facecolors=fills, edgecolors="none", snap=False, zorder=3)
    )


def _fit(word: str, size: float, column: int, row: int) -> Path:
    """The word's letters in the middle of a cell, in units of cells, y downwards."""
    from matplotlib.path import Path

    outline, width = _letters(word)
    room = 0.94
    across = min(1.0, room / (width * size))
    if across < _NARROWEST:
        size *= across / _NARROWEST
        across = _NARROWEST
    vertices = np.array(outline.vertices, float)
    vertices[:, 0] = column + 0.5 + (vertices[:, 0] - width / 2) * size * across
    vertices[:, 1] = row + 0.5 - (vertices[:, 1] - _SMALL_LETTER / 2) * size
    return Path(vertices, outline.codes)


@lru_cache(maxsize=8192)
def _letters(word: str) -> tuple[Path, float]:
    """(outline, width) at a font size of 1."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.path import Path
    from matplotlib.textpath import TextPath

    size = 100  # outlines at a size of 1 would be rounded
    raw = TextPath((0, 0), word, size=size, prop=FontProperties(family="DejaVu Sans"), usetex=False)
    vertices = np.array(raw.vertices, float) / size
    return Path(vertices, raw.codes), float(vertices[:, 0].max(initial=0.1))


@lru_cache(maxsize=1)
def _signs() -> frozenset[int]:
    from matplotlib.font_manager import FontProperties, findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(FontProperties(family="DejaVu Sans"))).get_charmap())


def _rule(axes: Axes, rows: int, columns: int) -> None:
    axes.hlines(range(rows + 1), 0, columns, colors=figure_style.RULE, linewidth=0.5, zorder=2)
    axes.vlines(range(columns + 1), 0, rows, colors=figure_style.RULE, linewidth=0.5, zorder=2)


def _cosine_map(
    figure: Figure, cosines: NDArray[np.float64], x: float, y: float, side: float, scale: float
) -> None:
    rows, columns = cosines.shape
    high = side * rows / columns
    axes = figure_style.place(figure, x, y, side, high)
    axes.set_axis_off()
    drawn = axes.imshow(
        cosines, cmap="viridis", vmin=min(0.0, float(cosines.min(initial=0.0))), vmax=scale,
        extent=(0, columns, rows, 0), interpolation="nearest", aspect="auto",
    )  # fmt: skip
    bar = figure.colorbar(drawn, cax=figure_style.place(figure, x + side + 0.1, y, 0.12, high))
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.ax.tick_params(colors=figure_style.SOFT, length=0, labelsize=8)


def _most_frequent(
    figure: Figure,
    words: Sequence[str],
    colours: dict[str, str],
    x: float,
    y: float,
    width: float,
    most: int,
) -> None:
    """The words of the dictionary that name most patches, with a bar each; `most` is the room."""
    from matplotlib.patches import Rectangle

    counts = Counter(word.lower() for word in words if word in colours)
    tone = {word.lower(): colour for word, colour in colours.items()}
    page_width, page_height = figure.get_size_inches()
    for number, (word, count) in enumerate(counts.most_common(max(0, min(12, most)))):
        middle = y + number * _BAR
        longest = max(counts.values())
        figure_style.write(figure, x, middle, word[:16], size=10.5, color=tone[word])
        room = width - 1.75
        figure.add_artist(
            Rectangle(
                ((x + 1.35) / page_width, 1 - (middle + 0.07) / page_height),
                room * count / longest / page_width,
                0.14 / page_height,
                transform=figure.transFigure,
                facecolor=tone[word],
                alpha=0.75,
                linewidth=0,
            )
        )
        end = x + 1.35 + room * count / longest + 0.07
        figure_style.write(figure, end, middle, f"{count}", size=9, color=figure_style.SOFT)
