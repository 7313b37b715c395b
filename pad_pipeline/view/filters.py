"""Which images a page shows: the filters of its address, checked, and back into an address."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, get_args
from urllib.parse import urlencode

from pad_pipeline.errors import UserError
from pad_pipeline.records import Status

STATUSES: tuple[str, ...] = get_args(Status)
SORTS = ("order", "score", "area", "regions", "tag", "status", "caption")
DESCENDING = ("score", "area", "regions")
"""Sorted from the largest on unless the address says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """Images pass that meet every condition; all of them by default.

    `tag`, `min_score`, `min_area` and `min_iou` together ask for one region each tag: labelled so,
    with at least this score, this many pixels and this predicted IoU. With `boxed="no"` the tag was
    given to the image and no region has it. Every word of `q` must occur in the caption, `image` in
    the id.
    """

    tag: tuple[str, ...] = ()
    boxed: str = ""
    status: str = ""
    cause: str = ""
    q: str = ""
    image: str = ""
    min_score: float | None = None
    min_area: int | None = None
    min_iou: float | None = None
    min_regions: int | None = None
    max_regions: int | None = None
    sort: str = "order"
    reverse: bool = False

    @property
    def descending(self) -> bool:
        """Whether the largest come first."""
        return (self.sort in DESCENDING) != self.reverse

    @property
    def any(self) -> bool:
        """Whether anything is left out."""
        return replace(self, sort="order", reverse=False) != Filters()

    def address(self, path: str = "/", /, **changes: Any) -> str:
        """`path` with these filters, and `changes` to them or further values, as its query."""
        query = self.query(**changes)
        return f"{path}?{query}" if query else path

    def query(self, **changes: Any) -> str:
        """These filters, and `changes` to them or further values, without the question mark."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        values: list[tuple[str, str]] = []
        for name, value in {**own, **changes}.items():
            if value in (None, "", (), False) or (name == "sort" and value == "order"):
                continue
            if name == "reverse":
                value = "1"
            several = value if isinstance(value, tuple) else (value,)
            values += [(name, _text(one)) for one in several]
        return urlencode(values)


def read_filters(values: Sequence[tuple[str, str]]) -> Filters:
    """The filters of an address's query; empty values count as absent, unknown names are ignored.

    Raises `UserError` for a value that cannot be meant.
    """
    given = {name: value for name, value in values if value.strip()}
    tags = tuple(dict.fromkeys(value for name, value in values if name == "tag" and value))
    return Filters(
        tag=tags,
        boxed=_choice(given, "boxed", ("", "no")),
        status=_choice(given, "status", ("", *STATUSES)),
        cause=given.get("cause", ""),
        q=given.get("q", "").strip(),
        image=given.get("image", ""),
        min_score=_number(given, "min_score", 1.0),
        min_area=_whole(given, "min_area"),
        min_iou=_number(given, "min_iou", 1.0),
        min_regions=_whole(given, "min_regions"),
        max_regions=_whole(given, "max_regions"),
        sort=_choice(given, "sort", SORTS),
        reverse=given.get("reverse", "") in ("1", "true"),
    )


def whole_number(values: Mapping[str, str], name: str, default: int, most: int) -> int:
    """A whole number of an address's query, 0 to `most`; raises `UserError` for another value."""
    found = _whole(values, name)
    if found is None:
        return default
    if found > most:
        raise UserError(f"expected {name} of at most {most:,}, found {found:,}")
    return found


def _choice(values: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    value = values.get(name, choices[0])
    if value not in choices:
        told = ", ".join(choice for choice in choices if choice)
        raise UserError(f"expected {name} to be one of {told}, found {value[:60]!r}")
    return value


def _number(values: Mapping[str, str], name: str, most: float) -> float | None:
    if name not in values:
        return None
    try:
        number = float(values[name])
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise UserError(f"expected {name} between 0 and {most:g}, found {values[name][:60]!r}")
    return number


def _whole(values: Mapping[str, str], name: str) -> int | None:
    if name not in values:
        return None
    text = values[name].strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 15):
        raise UserError(f"expected {name} to be a whole number from 0, found {text[:60]!r}")
    return int(text)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
