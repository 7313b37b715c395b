"""The page of a sample's picture: measures, colours, text in inches from its top left corner."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER, INK, SOFT = "#faf9f6", "#22252b", "#767b85"

# All lengths in inches; the figure is laid out from its top left corner.
DPI = 120
WIDTH, MARGIN, GAP = 13.0, 0.45, 0.3
PICTURE, TITLES = 4.75, 0.62

_READABLE = {"Ġ": "▁", "Ċ": "⏎", "<0x0A>": "⏎", "\n": "⏎", "\t": "⇥"}
"""How tokenizers spell white space -> how it is shown; a space before a word is always ▁."""
_FONTS = ("DejaVu Sans Mono", "DejaVu Sans Mono:bold", "DejaVu Sans")


def write(place: Figure | Axes, x: float, y: float, text: str, **style) -> None:
    # parse_math: a caption's $ is a dollar
    place.text(x, y, text, **{"color": INK, "va": "center", "parse_math": False, **style})


def figure_point(figure: Figure, x: float, down: float) -> tuple[float, float]:
    """Inches from the left and from the top -> the figure's own coordinates."""
    width, height = figure.get_size_inches()
    return x / width, 1 - down / height


def add_axes(figure: Figure, x: float, down: float, width: float, height: float) -> Axes:
    """Axes without frame, `height` inches high with their top `down` inches from the figure's."""
    (left, bottom), size = figure_point(figure, x, down + height), figure.get_size_inches()
    axes = figure.add_axes((left, bottom, width / size[0], height / size[1]))
    axes.set_axis_off()
    return axes


def write_title(figure: Figure, x: float, title: str, note: str) -> None:
    write(figure, *figure_point(figure, x, MARGIN + 0.1), title, size=14, weight="bold")
    write(figure, *figure_point(figure, x, MARGIN + 0.38), note, size=10, color=SOFT)


def readable(text: str, longest: int) -> str:
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
