"""Ends a worker in which nothing moves any more, so that another can take its work."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Mapping

_STDERR = 2
_POLLS_PER_LIMIT = 10
_MOST_BETWEEN_POLLS_S = 5.0
# For code that holds the interpreter's lock, under which no Python thread runs.
_LAST_RESORT_S = 60.0


class Watchdog:
    """Watches the times that stages add up; ends the process when none has moved for `limit_s`.

    Called with what begins, and without arguments at its end. Before the end, `tell(limit_s,
    *what)` is called and the stacks of all threads go to stderr.
    """

    def __init__(
        self, limit_s: float, seconds: Mapping[str, float], tell: Callable[..., None]
    ) -> None:
        self._limit_s = limit_s
        self._seconds = seconds
        self._tell = tell
        self._what: tuple = ()
        self._moved_s = time.monotonic()
        self._total = 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, *what: str | int) -> None:
        """Watch `what` from now on; nothing is watched without it."""
        with self._lock:
            self._what = what
            self._moved()

    def _moved(self) -> None:
        self._moved_s = time.monotonic()
        if self._what:
            faulthandler.dump_traceback_later(
                self._limit_s + _LAST_RESORT_S, exit=True, file=_STDERR
            )
        else:
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while True:
            time.sleep(min(self._limit_s / _POLLS_PER_LIMIT, _MOST_BETWEEN_POLLS_S))
            total = sum(list(self._seconds.values()))
            with self._lock:
                if total != self._total:
                    self._total = total
                    self._moved()
                elif self._what and time.monotonic() - self._moved_s > self._limit_s:
                    break
        faulthandler.dump_traceback(file=_STDERR)
        try:
            self._tell(self._limit_s, *self._what)
        finally:
            os._exit(1)
