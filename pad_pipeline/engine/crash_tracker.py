"""What the workers of a run have begun and not ended, kept where it outlives them.

A worker that dies cannot say over what. So a worker that replaces a dead one notes each piece of
work before it begins it and after it has ended: what remains noted killed its worker. A piece of
work is named by a tuple: `("load", stage)`, `("chunk", stage, chunk)`, `("together", stage, chunk)`
for the chunk's images without those quarantined, or `("image", stage, image_id)`.
"""

from __future__ import annotations

from collections import Counter
from typing import Protocol

STAGE_AT_FAULT_AFTER = 5
"""Images in a row over which workers died alone, after which the stage itself is at fault."""


class CrashTracker:
    """One instance per run, in an actor of its own (see `ray_crash_tracker`)."""

    def __init__(self, stage_at_fault_after: int = STAGE_AT_FAULT_AFTER) -> None:
        self._stage_at_fault_after = stage_at_fault_after
        self._begun: Counter[tuple] = Counter()
        self._hung: dict[tuple, float] = {}
        self._in_a_row: dict[str, set[str]] = {}

    def begin(self, *work: str | int) -> int:
        """Note that `work` begins; returns how often it was begun before and not ended."""
        before = self._begun[work]
        self._begun[work] += 1
        return before

    def end(self, *work: str | int) -> None:
        """Note that the worker has survived `work`."""
        self._begun.pop(work, None)
        self._hung.pop(work, None)

    def record_hang(self, seconds: float, *work: str | int) -> None:
        """Note that the worker ends itself, as `work` made no progress for this many seconds."""
        self._hung[work] = seconds
        self._begun[work] = max(self._begun[work], 1)

    def count_deaths(self, *work: str | int) -> tuple[int, float | None]:
        """How often workers died over `work`, and after how many seconds it hung, if it did."""
        return self._begun[work], self._hung.get(work)

    def quarantine(self, stage: str, image_id: str) -> int:
        """Note a quarantined image; returns how many there are in a row if `stage` is at fault.

        Else 0.
        """
        in_a_row = self._in_a_row.setdefault(stage, set())
        in_a_row.add(image_id)
        return len(in_a_row) if len(in_a_row) >= self._stage_at_fault_after else 0

    def clear_image(self, stage: str, image_id: str) -> None:
        """Note that an image passed `stage` alone."""
        self.end("image", stage, image_id)
        self._in_a_row.pop(stage, None)


class CrashTrackerClient(Protocol):
    """A `CrashTracker` as workers call it, wherever it is."""

    def begin(self, *work: str | int) -> int: ...
    def end(self, *work: str | int) -> None: ...
    def count_deaths(self, *work: str | int) -> tuple[int, float | None]: ...
    def quarantine(self, stage: str, image_id: str) -> int: ...
    def clear_image(self, stage: str, image_id: str) -> None: ...
