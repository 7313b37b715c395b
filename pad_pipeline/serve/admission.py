"""Admission control: a bounded number of images; none while models load or requests drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pad_pipeline.serve.api_error import ApiError

State = Literal["loading", "ready", "draining"]

RETRY_AFTER_S = {"loading": 5, "ready": 1, "draining": 10}

_CLOSED = {
    "loading": "the models are being loaded; /readyz answers 200 once they are",
    "draining": "the service is shutting down and takes no more requests",
}


class AdmissionControl:
    """Counts the images that are being annotated; one instance for each event loop."""

    def __init__(self, max_queued: int) -> None:
        self.max_queued = max_queued
        self.state: State = "loading"
        self.num_admitted = 0
        self._is_empty = asyncio.Event()
        self._is_empty.set()

    def check(self) -> None:
        """Raise `ApiError` (503) unless requests are admitted."""
        if self.state != "ready":
            raise ApiError(503, self.state, _CLOSED[self.state], _retry_after(self.state))

    @contextmanager
    def slot(self) -> Iterator[Slot]:
        """A place for one image, which may grow; raises `ApiError` (503, 429)."""
        self.check()
        slot = Slot(self)
        try:
            slot.grow(1)
            yield slot
        finally:
            self._release(slot.size)

    async def wait_until_empty(self) -> None:
        """Return when no image is being annotated."""
        await self._is_empty.wait()

    def admit(self, number: int) -> None:
        """Count `number` more images; raises `ApiError` (429) where that would exceed the limit."""
        if self.num_admitted + number > self.max_queued:
            raise ApiError(
                429,
                "queue_full",
                f"{self.num_admitted} images are queued and {number} more would exceed the limit "
                f"of {self.max_queued}: try again later",
                _retry_after("ready"),
            )
        self.num_admitted += number
        self._is_empty.clear()

    def _release(self, number: int) -> None:
        self.num_admitted -= number
        if not self.num_admitted:
            self._is_empty.set()


class Slot:
    """The places that one request holds."""

    def __init__(self, admission: AdmissionControl) -> None:
        self._admission = admission
        self.size = 0

    def grow(self, number: int) -> None:
        """Hold `number` more places; raises `ApiError` (429)."""
        self._admission.admit(number)
        self.size += number


def _retry_after(state: State) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S[state])}
