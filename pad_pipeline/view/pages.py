"""The templates, and how numbers, colours and addresses are written in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.templating import Jinja2Templates

from pad_pipeline.drawing.colours import NUM_COLOURS, colour, colour_number
from pad_pipeline.errors import plural
from pad_pipeline.view.addresses import of_image
from pad_pipeline.view.filters import tag_address

FOLDER = Path(str(files("pad_pipeline.view")))


def number(value: float | None) -> str:
    """12,345; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float, digits: int = 0) -> str:
    """12 %."""
    return f"{100 * value:.{digits}f} %"


def score(value: float | None) -> str:
    """0.68; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"


def when(at: str) -> str:
    """`2026-11-29 16:12` of an ISO time in UTC, as it stands where it is none."""
    try:
        return datetime.fromisoformat(at).astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
    except ValueError:
        return at


def num_label(first: int, shown: int, total: int) -> str:
    """`61–120 of 558,128`."""
    if not total:
        return "0"
    return f"{first + 1:,}–{first + shown:,} of {total:,}"


def tag_class(tag: str, colours: Mapping[str, int] | None = None) -> str:
    """The class that gives an element the colour of a tag.

    `colours` are those of the tags of one picture, where that differs from the tags' own.
    """
    number = (colours or {}).get(tag)
    return f"c{colour_number(tag) if number is None else number}"


@lru_cache(maxsize=1)
def tag_stylesheet() -> str:
    """The colours of tags as classes, the same as in the pictures of `render`."""
    lines = []
    for index in range(NUM_COLOURS):
        red, green, blue = colour(index)
        lines.append(f".c{index}{{--tag:#{red:02x}{green:02x}{blue:02x}}}")
    return "\n".join(lines) + "\n"


def bars(
    names: Sequence[str], counts: Sequence[int], hrefs: Sequence[str] | None = None
) -> list[dict[str, Any]]:
    """Bars of a chart: name, count, length as a share of the longest, and where the bar leads."""
    longest, total = max(counts, default=0), sum(counts)
    return [
        {
            "href": href,
            "name": name,
            "count": count,
            "length": round(100 * count / longest, 2) if longest else 0,
            "share": count / total if total else 0.0,
        }
        for name, count, href in zip(names, counts, hrefs or [None] * len(names), strict=True)
    ]


def _templates() -> Jinja2Templates:
    """The templates; every value in them is escaped."""
    environment = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number, percent=percent, score=score, tag_class=tag_class, plural=plural, when=when
    )
    environment.globals.update(of_image=of_image, tag_address=tag_address, num_label=num_label)
    return Jinja2Templates(env=environment)


TEMPLATES = _templates()
