"""The parameters that pages take in their addresses: types to check them, and what is wrong."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field
from pydantic_core import PydanticUseDefault

LARGEST_PAGE = 2**31 - 1
_LARGEST = 10**15 - 1
_CHOICE = re.compile(r"'([^']*)'")
_SHOWN = 60


def _default_if_blank(value: Any) -> Any:
    if isinstance(value, str) and not value.strip():
        raise PydanticUseDefault
    return value


OptionalInForm = BeforeValidator(_default_if_blank)
"""A form sends its empty fields too: they count as absent."""
Fraction = Annotated[float | None, Field(ge=0, le=1), OptionalInForm]
Count = Annotated[int | None, Field(ge=0, le=_LARGEST), OptionalInForm]
PageNumber = Annotated[int, Field(ge=0, le=LARGEST_PAGE), OptionalInForm]


class Parameters(BaseModel, frozen=True):
    """The query of a page; names that it does not know are ignored."""


def describe(error: Mapping[str, Any]) -> str:
    """What Pydantic found wrong with one parameter, as a sentence."""
    name, found, limits = error["loc"][-1], str(error["input"]), error.get("ctx", {})
    kind = error["type"]
    if kind == "literal_error":
        choices = filter(None, _CHOICE.findall(limits["expected"]))
        expected = f"to be one of {', '.join(choices)}"
    elif kind == "string_pattern_mismatch":
        expected = "to be corners from 0 to 999, as 120.80-300.90"
    elif kind == "bool_parsing":
        expected = "to be 0 or 1"
    elif kind == "float_parsing" or any(isinstance(limit, float) for limit in limits.values()):
        expected = "between 0 and 1"
    elif kind == "less_than_equal":
        return f"expected {name} of at most {limits['le']:,}, found {int(found):,}"
    else:
        expected = "to be a whole number from 0"
    return f"expected {name} {expected}, found {found[:_SHOWN]!r}"
