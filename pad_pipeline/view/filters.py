"""Which images a page shows: the filters of its address, checked, and back into an address."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlencode

from pydantic import AfterValidator, StringConstraints

from pad_pipeline.records import Status
from pad_pipeline.view.lasso import PATTERN
from pad_pipeline.view.parameters import Count, Fraction, OptionalInForm, Parameters

Sort = Literal["order", "score", "area", "regions", "tag", "status", "caption"]
Marked = Literal["accepted", "rejected", "flagged", "renamed", "unmarked"]
MARKED: tuple[str, ...] = get_args(Marked)
STATUSES: tuple[str, ...] = get_args(Status)
SORTS: tuple[str, ...] = get_args(Sort)
DESCENDING = ("score", "area", "regions")
"""Sorted from the largest on unless the address says otherwise."""
_ORDER = ("sort", "reverse")
REGION_LIMITS = (
    *("min_score", "max_score", "min_area", "min_iou", "max_iou", "min_share", "max_share"),
)
"""Filters of regions besides the tag."""


def _distinct(tags: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(tag for tag in tags if tag))


class Filters(Parameters, frozen=True):
    """Images pass that meet every condition; all of them by default.

    `tag` and `REGION_LIMITS` together ask for one region for each tag: with this label, at least
    this score, this many pixels, this predicted IoU and this share of the image's pixels, and less
    than those with `max_`. With `boxed="no"` the image has the tag and none of its regions does.
    Every word of `q` must occur in the caption, `image` in the id; `lasso` is a part of the map,
    see there. `review` is a mark that the image or one of its regions has, or "unmarked".
    """

    tag: Annotated[tuple[str, ...], AfterValidator(_distinct)] = ()
    boxed: Annotated[Literal["", "no"], OptionalInForm] = ""
    status: Annotated[Literal["", Status], OptionalInForm] = ""
    cause: Annotated[str, OptionalInForm] = ""
    q: Annotated[str, StringConstraints(strip_whitespace=True)] = ""
    image: Annotated[str, OptionalInForm] = ""
    lasso: Annotated[str, StringConstraints(pattern=f"^{PATTERN}$"), OptionalInForm] = ""
    review: Annotated[Literal["", Marked], OptionalInForm] = ""
    min_score: Fraction = None
    max_score: Fraction = None
    min_area: Count = None
    min_iou: Fraction = None
    max_iou: Fraction = None
    min_share: Fraction = None
    max_share: Fraction = None
    min_regions: Count = None
    max_regions: Count = None
    sort: Annotated[Sort, OptionalInForm] = "order"
    reverse: Annotated[bool, OptionalInForm] = False

    @property
    def descending(self) -> bool:
        """Whether the largest come first."""
        return (self.sort in DESCENDING) != self.reverse

    @property
    def any(self) -> bool:
        """Whether anything is left out."""
        fields = type(self).model_fields
        return any(
            getattr(self, name) != field.default
            for name, field in fields.items()
            if name not in _ORDER
        )

    def address(self, path: str = "/", /, **changes: Any) -> str:
        """`path` with these filters, and `changes` to them or further values, as its query."""
        query = self.query(**changes)
        return f"{path}?{query}" if query else path

    def query(self, **changes: Any) -> str:
        """These filters, and `changes` to them or further values, without the question mark."""
        values: list[tuple[str, str]] = []
        for name, value in {**self.model_dump(), **changes}.items():
            absent = value is None or value is False or value in ("", ())  # 0 is a value
            if absent or (name == "sort" and value == "order"):
                continue
            if name == "reverse":
                value = "1"
            several = value if isinstance(value, tuple) else (value,)
            values += [(name, _text(one)) for one in several]
        return urlencode(values)


def tag_address(tag: str, *, boxed: Literal["", "no"] = "") -> str:
    """The address of the images with a region of a tag, or with `boxed="no"` without one."""
    return Filters(tag=(tag,), boxed=boxed).address("/")


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
