"""Lines, tables and files that the reports of all commands are made of."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from pad_pipeline.drawing.console import stdout_console
from pad_pipeline.errors import UserError


def say(text: str) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(text + "\n")


def print_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """A title and two columns."""
    say(title)
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    print_table(table)
    say("")


def print_counts(title: str, counts: Mapping[str, int]) -> None:
    """A title and a count per row."""
    print_pairs(title, [(name, f"{count:,}") for name, count in counts.items()])


def print_table(renderable: Any) -> None:
    """A table on stdout, of the terminal's width or a fixed one."""
    stdout_console().print(renderable)


def write_text(path: str, text: str) -> None:
    """Write a file that the user has named; `UserError` where that fails."""
    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
