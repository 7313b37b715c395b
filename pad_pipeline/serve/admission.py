"""Who is let in: nobody before the models are loaded or while draining, so many at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pad_pipeline.serve.api_error import ApiError

State = Literal["loading", "ready", "draining"]

RETRY_AFTER_S = {"loading": 5, "ready": 1, "draining": 10}

_CLOSED = {
    "loading": "the models are being loaded; /readyz says when they are",
    "draining": "the service is about to end and takes no more requests",
}


class AdmissionControl:
    """Counts the images that are waited for; one instance for each event loop."""

    def __init__(self, max_queued: int) -> None:
        self.max_queued = max_queued
        self.state: State = "loading"
        self.num_taken = 0
        self._left = asyncio.Event()
        self._left.set()

    def check(self) -> None:
        """Raise `ApiError` (503) unless requests are let in."""
        if self.state != "ready":
            raise ApiError(503, self.state, _CLOSED[self.state], _retry_after(self.state))

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """Room for one image; raises `ApiError` (503, 429). All that it holds is given back."""
        self.check()
        slot = Slot(self)
        try:
            slot.grow(1)
            yield slot
        finally:
            self._give_back(slot.size)

    async def empty(self) -> None:
        """Return when no image is waited for."""
        await self._left.wait()

    def take(self, number: int) -> None:
        """Count so many images more; raises `ApiError` (429) where there is no room for them."""
        if self.num_taken + number > self.max_queued:
            raise ApiError(
                429,
                "queue_full",
                f"{self.num_taken} images are waited for and {number} more would be beyond the "
                f"limit of {self.max_queued}: try again",
                _retry_after("ready"),
            )
        self.num_taken += number
        self._left.clear()

    def _give_back(self, number: int) -> None:
        self.num_taken -= number
        if not self.num_taken:
            self._left.set()


class Slot:
    """The room that one request holds."""

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission
        self.size = 0

    def grow(self, number: int) -> None:
        """Hold so much more; raises `ApiError` (429)."""
        self._admission.take(number)
        self.size += number


def _retry_after(state: State) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S[state])}
