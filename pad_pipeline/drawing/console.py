"""The console of what is printed on stdout."""

from __future__ import annotations

import sys

from rich.console import Console

_PLAIN_WIDTH = 120


def stdout_console() -> Console:
    """A console on stdout: of the terminal's width, or 120 columns where it is no terminal."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else _PLAIN_WIDTH)
