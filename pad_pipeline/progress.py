"""How far something long is, shown while it goes: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

logger = logging.getLogger(__name__)

LINE_INTERVAL_S = 10.0
_QUIET_S = 2.0
"""What is done by then shows no bar."""

_Item = TypeVar("_Item")


def track(
    items: Iterable[_Item], total: int, doing: str, console: Console | None = None
) -> Iterator[_Item]:
    """The items, of which there are `total`; says in the meantime how many were taken.

    `doing` is what the line begins with: "exporting images". What takes a moment shows nothing.
    """
    shown = _Shown(total, doing, console or Console(stderr=True))
    try:
        for count, item in enumerate(items, start=1):
            yield item
            shown.update(count)
    finally:
        shown.stop()


class _Shown:
    """The bar or the lines of one thing that goes on."""

    def __init__(self, total: int, doing: str, console: Console) -> None:
        self._total = total
        self._doing = doing
        self._console = console
        self._began_s = self._last_line_s = time.monotonic()
        self._bar: tuple[Progress, TaskID] | None = None

    def update(self, count: int) -> None:
        now = time.monotonic()
        if not self._console.is_terminal:
            if now - self._last_line_s >= LINE_INTERVAL_S:
                self._last_line_s = now
                left = (self._total - count) * (now - self._began_s) / count
                logger.info(
                    "%s: %s of %s · %s left",
                    self._doing,
                    f"{count:,}",
                    f"{self._total:,}",
                    format_duration(max(left, 0.0)),
                )
        elif self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=count)
        elif now - self._began_s >= _QUIET_S:
            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            bar.start()
            self._bar = bar, bar.add_task(self._doing, total=self._total, completed=count)

    def stop(self) -> None:
        if self._bar is not None:
            self._bar[0].stop()


def format_duration(seconds: float) -> str:
    """A time span for people to read: `8 s`, `3 min 20 s`, `10 h 5 min`."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"
