"""The check of the limits that stand at the fields of a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from annotated_types import Ge, Gt, Interval, MultipleOf

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import AtLeastOne, Fraction, NotNegative, check_limits


@dataclass(frozen=True, kw_only=True)
class Inner:
    size: AtLeastOne = 1
    part: Annotated[float | None, Ge(0)] = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = Inner()
    count: NotNegative = 0
    share: Fraction = 0.5
    seconds: Annotated[float, Gt(0)] = 1.0
    port: Annotated[int, Interval(ge=0, le=65535)] = 80
    wait: Annotated[float, Interval(ge=0, lt=60)] = 0.0
    name: str = "free"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"inner": Inner(size=1, part=0)},
        {"share": 0},
        {"share": 1},
        {"port": 65535},
        {"wait": 59.9},
        {"count": 10**12},
        {"seconds": 1e-9},
    ],
)
def test_values_within_their_limits_pass(fields: dict[str, Any]) -> None:
    check_limits(Outer(**fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"inner": Inner(size=0)}, "inner.size must be at least 1, not 0"),
        ({"inner": Inner(part=-0.5)}, "inner.part must not be negative, not -0.5"),
        ({"count": -1}, "count must not be negative, not -1"),
        ({"share": 1.01}, "share must lie between 0 and 1, not 1.01"),
        ({"share": float("nan")}, "share must lie between 0 and 1, not nan"),
        ({"seconds": 0}, "seconds must be positive, not 0"),
        ({"seconds": float("nan")}, "seconds must be positive, not nan"),
        ({"port": 65536}, "port must lie between 0 and 65535, not 65536"),
        ({"wait": 60}, "wait must lie between 0 and 60, not 60"),
    ],
)
def test_a_value_beyond_is_refused_by_the_path_of_its_field(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError) as error:
        check_limits(Outer(**fields))
    assert str(error.value) == message
    assert isinstance(error.value.args[0], Setting)


def test_a_limit_of_a_kind_that_nothing_checks_is_a_mistake_of_ours() -> None:
    @dataclass(frozen=True)
    class Unknown:
        size: Annotated[int, MultipleOf(2)] = 3

    with pytest.raises(TypeError, match="MultipleOf"):
        check_limits(Unknown())
