"""The chunks that a worker has in hand at once: a stage, a clock and a watch for each."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pad_pipeline.engine.stages import Seconds, SharedStage, Stage


@dataclass
class Lane:
    """What one chunk after the other goes through: a stage that shares its models with others."""

    stage: Stage
    seconds: Seconds
    watch: Callable[..., None]


def open_lanes(
    make: Callable[[Seconds], Stage],
    number: int,
    follow: Callable[[Seconds], Callable[..., None]],
) -> list[Lane]:
    """`number` lanes of one stage, whose models are loaded once.

    `follow` gives the watch of a lane by the times that it books.
    """
    first: Seconds = {}
    stage = make(first)
    lanes = [Lane(stage, first, follow(first))]
    while len(lanes) < number:
        if not isinstance(stage, SharedStage):
            raise TypeError(f"{stage!r} has no twins, so it works on one chunk at a time")
        seconds: Seconds = {}
        lanes.append(Lane(stage.twin(seconds), seconds, follow(seconds)))
    return lanes


class Lanes:
    """Hands a lane to each thread that asks, and the time in which any is taken to those in use.

    The times of all chunks add up to the time in which the worker had one in hand.
    """

    def __init__(self, lanes: Sequence[Lane], clock: Callable[[], float] = time.perf_counter):
        self._free: queue.SimpleQueue[Lane] = queue.SimpleQueue()
        for lane in lanes:
            self._free.put(lane)
        self._clock = clock
        self._lock = threading.Lock()
        self._in_use: list[Use] = []
        self._last_s = 0.0

    @contextmanager
    def take(self) -> Iterator[Use]:
        """A free lane for the block, waited for; its times are empty at first."""
        lane = self._free.get()
        lane.seconds.clear()
        use = Use(lane)
        with self._lock:
            self._share_time()
            self._in_use.append(use)
        try:
            yield use
        finally:
            with self._lock:
                self._share_time()
                self._in_use.remove(use)
            self._free.put(lane)

    def _share_time(self) -> None:
        now_s = self._clock()
        for use in self._in_use:
            use.busy_s += (now_s - self._last_s) / len(self._in_use)
        self._last_s = now_s


@dataclass(eq=False)
class Use:
    """A lane while a chunk goes through it; `busy_s` is at last the chunk's share of the time."""

    lane: Lane
    busy_s: float = 0.0
