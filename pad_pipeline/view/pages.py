"""Templates and what they are given: numbers, colours and addresses as they are shown."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pad_pipeline.drawing.colours import NUM_COLOURS, colour, colour_number
from pad_pipeline.view.addresses import of_image

FOLDER = files("pad_pipeline.view")


@lru_cache(maxsize=1)
def environment() -> Environment:
    """The templates; whatever they are given is escaped."""
    made = Environment(
        loader=FileSystemLoader(str(FOLDER / "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        number=number, percent=percent, score=score, tag_class=tag_class, plural=plural
    )
    made.globals.update(of_image=of_image, num_label=num_label)
    return made


def render(template: str, **values: Any) -> str:
    """A page as text."""
    return environment().get_template(template).render(**values)


def number(value: float | None) -> str:
    """12,345; a dash where there is none."""
    return "–" if value is None else f"{value:,.0f}"


def percent(value: float, digits: int = 0) -> str:
    """12 %."""
    return f"{100 * value:.{digits}f} %"


def score(value: float | None) -> str:
    """0.68; a dash where there is none."""
    return "–" if value is None else f"{value:.2f}"


def plural(count: int, one: str, several: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def num_label(first: int, shown: int, total: int) -> str:
    """`61–120 of 558,128`."""
    if not total:
        return "none"
    return f"{first + 1:,}–{first + shown:,} of {total:,}"


def tag_class(tag: str) -> str:
    """The class that gives an element the colour of a tag."""
    return f"c{colour_number(tag)}"


@lru_cache(maxsize=1)
def tag_stylesheet() -> str:
    """The colours of tags as classes, the same as in the pictures of `render`."""
    lines = []
    for index in range(NUM_COLOURS):
        red, green, blue = colour(index)
        lines.append(f".c{index}{{--tag:#{red:02x}{green:02x}{blue:02x}}}")
    return "\n".join(lines) + "\n"


def bars(names: list[str], counts: list[int]) -> list[dict[str, Any]]:
    """Bars of a chart: name, count, and length as a share of the longest."""
    longest, total = max(counts, default=0), sum(counts)
    return [
        {
            "name": name,
            "count": count,
            "length": round(100 * count / longest, 2) if longest else 0,
            "share": count / total if total else 0.0,
        }
        for name, count in zip(names, counts, strict=True)
    ]
