"""The one exception whose message is written for the person who runs the program, and its words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """A field of a config or an argument of a function, as a part of a message for the user.

    It reads as Python writes it, `chunk_size` or `chunk_size=48`, and the command line writes the
    flag in its place, `--chunk-size 48`. `name` is the path of the field: `tag.pool.gpus`.
    """

    name: str
    value: Any = ...

    @property
    def has_value(self) -> bool:
        """Whether the setting stands for one of its values."""
        return self.value is not ...

    def __str__(self) -> str:
        return f"{self.name}={self.value!r}" if self.has_value else self.name


class UserError(Exception):
    """Something that the user can put right: wrong input, missing file, unreachable service.

    The message says what was expected, what was found and what to change. It is given in parts,
    texts and `Setting`s: `UserError(Setting("chunk_size"), f" must be at least 1, not {size}")`.
    The command line prints it in one line without a traceback and exits with `exit_code`.
    """

    exit_code = 1

    def __str__(self) -> str:
        return self.spell(str)

    def spell(self, name: Callable[[Setting], str]) -> str:
        """The message with every `Setting` as `name` writes it."""
        return "".join(name(part) if isinstance(part, Setting) else str(part) for part in self.args)

    def to_json(self) -> list[Any]:
        """The parts as plain JSON values, for a process that raises the error again."""
        return [
            {"name": part.name, **({"value": part.value} if part.has_value else {})}
            if isinstance(part, Setting)
            else str(part)
            for part in self.args
        ]

    @classmethod
    def from_json(cls, parts: list[Any]) -> UserError:
        """The error whose parts `to_json` gave."""
        return cls(*(Setting(**part) if isinstance(part, dict) else part for part in parts))


_LONGEST_LINE = 300


def first_line(error: BaseException) -> str:
    """The first line of an error's message, its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def one_line(error: BaseException) -> str:
    """An error's whole message in one line, its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def short_line(error: BaseException) -> str:
    """`one_line`, cut to a length that fits a message: Arrow's can be pages long."""
    return one_line(error)[:_LONGEST_LINE]


def plural(count: int, one: str, several: str = "") -> str:
    """`1 image`, `2 images`."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
