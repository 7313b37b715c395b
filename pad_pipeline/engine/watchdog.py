"""Ends a worker that hangs, so that another can take its work."""

from __future__ import annotations

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

_STDERR = 2
_POLLS_PER_LIMIT = 10
_MOST_BETWEEN_POLLS_S = 5.0
# For code that holds the interpreter's lock, under which no Python thread runs.
_LAST_RESORT_S = 60.0
# Threads that share a GPU stand still together where one of them has stopped it.
_STOPPED_TOO = 0.5


@dataclass
class _Followed:
    """One thread's work, and when the times that it adds up last grew."""

    seconds: Mapping[str, float]
    work: tuple = ()
    moved_s: float = 0.0
    total: float = 0.0


class Watchdog:
    """Polls the times that stages add up; ends the process when some have not grown for `limit_s`.

    Before the process ends, the stacks of all threads go to stderr and `on_hang(limit_s, *work)` is
    called for the work that hangs, and for other work that stands still with it.
    """

    def __init__(self, limit_s: float, on_hang: Callable[..., None]) -> None:
        self._limit_s = limit_s
        self._on_hang = on_hang
        self._followed: list[_Followed] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def follow(self, seconds: Mapping[str, float]) -> Callable[..., None]:
        """Follow a thread that adds its times to `seconds`.

        What is returned is called with the work that begins, and without arguments at its end.
        """
        followed = _Followed(seconds)
        with self._lock:
            self._followed.append(followed)

        def watch(*work: str | int) -> None:
            with self._lock:
                followed.work, followed.moved_s = work, time.monotonic()
                self._restart_last_resort()

        return watch

    def _restart_last_resort(self) -> None:
        if any(followed.work for followed in self._followed):
            faulthandler.dump_traceback_later(
                self._limit_s + _LAST_RESORT_S, exit=True, file=_STDERR
            )
        else:
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        while True:
            time.sleep(min(self._limit_s / _POLLS_PER_LIMIT, _MOST_BETWEEN_POLLS_S))
            with self._lock:
                stopped = self._stopped()
                if stopped:
                    break
                self._restart_last_resort()
        faulthandler.dump_traceback(file=_STDERR)
        try:
            for work in stopped:
                self._on_hang(self._limit_s, *work)
        finally:
            os._exit(1)

    def _stopped(self) -> list[tuple]:
        """The work that stands still, where some of it has for longer than the limit."""
        now_s = time.monotonic()
        for followed in self._followed:
            total = sum(list(followed.seconds.values()))
            if total != followed.total:
                followed.total, followed.moved_s = total, now_s
        still = [(now_s - one.moved_s, one.work) for one in self._followed if one.work]
        if not any(still_s > self._limit_s for still_s, _ in still):
            return []
        return [work for still_s, work in still if still_s > _STOPPED_TOO * self._limit_s]
