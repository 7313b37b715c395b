"""Limits that stand at the fields of a config, and the one check that reads them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Annotated, Any, get_type_hints

from annotated_types import BaseMetadata, Ge, Gt, Interval, Le, Lt

from pad_pipeline.errors import Setting, UserError

AtLeastOne = Annotated[int, Ge(1)]
NotNegative = Annotated[int, Ge(0)]
Fraction = Annotated[float, Interval(ge=0, le=1)]


def check_limits(config: Any) -> None:
    """Raise `UserError` where a field lies beyond the limits that its annotation gives.

    `config` is a dataclass; those in its fields are checked too, and named by their path. None and
    fields without `Ge`, `Gt`, `Le`, `Lt` or `Interval` pass; NaN does not pass a limit.
    """
    for name, value, limits in _limited_fields(config, ""):
        if value is None:
            continue
        if not all(_holds(limit, value) for limit in limits):
            raise UserError(Setting(name), f" must {_describe(limits)}, not {value}")


def _limited_fields(config: Any, prefix: str) -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    limits = _limits_of(type(config))
    for field in dataclasses.fields(config):
        name, value = prefix + field.name, getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from _limited_fields(value, f"{name}.")
        elif field.name in limits:
            yield name, value, limits[field.name]


@functools.cache
def _limits_of(config_type: type) -> dict[str, tuple[Any, ...]]:
    found = {}
    for name, hint in get_type_hints(config_type, include_extras=True).items():
        limits: list[Any] = []
        for note in getattr(hint, "__metadata__", ()):
            if isinstance(note, BaseMetadata | Interval):  # others are for other readers
                limits += list(note) if isinstance(note, Interval) else [note]
        if limits:
            found[name] = tuple(limits)
    return found


def _holds(limit: Any, value: Any) -> bool:
    match limit:
        case Ge(bound):
            return value >= bound
        case Gt(bound):
            return value > bound
        case Le(bound):
            return value <= bound
        case Lt(bound):
            return value < bound
    raise TypeError(f"{limit!r} is no limit that check_limits knows")


def _describe(limits: tuple[Any, ...]) -> str:
    match limits:
        case (Ge(low) | Gt(low), Le(high) | Lt(high)):
            return f"lie between {low} and {high}"
        case (Ge(0),):
            return "not be negative"
        case (Ge(low),):
            return f"be at least {low}"
        case (Gt(0),):
            return "be positive"
        case (Le(high),):
            return f"be at most {high}"
    raise TypeError(f"{limits!r} are no limits that check_limits has words for")
