"""Ends a worker that hangs, so that another can take its work."""

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
    """Polls the times that stages add up; ends the process when none has grown for `limit_s`.

    Called with the work that begins, and without arguments at its end. Before the process ends,
    the stacks of all threads go to stderr and `on_hang(limit_s, *work)` is called.
    """

    def __init__(
        self, limit_s: float, seconds: Mapping[str, float], on_hang: Callable[..., None]
    ) -> None:
        self._limit_s = limit_s
        self._seconds = seconds
        self._on_hang = on_hang
        self._work: tuple = ()
        self._moved_s = time.monotonic()
        self._total = 0.0
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, *work: str | int) -> None:
        """Watch `work` from now on; nothing without it."""
        with self._lock:
            self._work = work
            self._restart_timer()

    def _restart_timer(self) -> None:
        self._moved_s = time.monotonic()
        if self._work:
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
                    self._restart_timer()
                elif self._work and time.monotonic() - self._moved_s > self._limit_s:
                    break
        faulthandler.dump_traceback(file=_STDERR)
        try:
            self._on_hang(self._limit_s, *self._work)
        finally:
            os._exit(1)
