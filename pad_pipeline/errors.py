"""The one exception whose message is written for the person who runs the program, and its words."""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right: wrong input, missing file, unreachable service.

    The message says what was expected, what was found and what to change. The command line
    prints it in one line without a traceback and exits with code 1.
    """


def first_line(error: BaseException) -> str:
    """The first line of an error's message, its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
