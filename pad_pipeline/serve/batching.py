"""Dynamic batching: what waits when a stage becomes free goes through it together."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pad_pipeline.engine.sample import Sample

Run = Callable[[list[Sample]], Awaitable[list[Sample]]]


@dataclass(frozen=True, slots=True)
class _Waiting:
    sample: Sample
    since_s: float
    found: asyncio.Future[Sample] = field(default_factory=asyncio.Future)


class Batches:
    """Calls `run` with `size` samples at most, one call at a time; for one event loop.

    A batch is made up when the one before has ended. Ray Serve's `serve.batch` makes it up when its
    first request has waited for `wait_s`, so that a busy stage gets many small ones.
    """

    def __init__(self, run: Run, *, size: int, wait_s: float) -> None:
        self._run = run
        self._size = size
        self._wait_s = wait_s
        self._waiting: deque[_Waiting] = deque()
        self._is_full = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def __call__(self, sample: Sample) -> Sample:
        """What `run` returns for the sample, which waits `wait_s` for others where none are there.

        Raises what `run` raises for its batch. A sample whose caller is cancelled while it waits
        is left out.
        """
        one = _Waiting(sample, asyncio.get_running_loop().time())
        self._waiting.append(one)
        if len(self._waiting) >= self._size:
            self._is_full.set()
        if self._work is None or self._work.done():
            self._work = asyncio.create_task(self._work_off())
        return await one.found

    async def _work_off(self) -> None:
        while self._waiting:
            await self._wait_for_others(self._waiting[0].since_s + self._wait_s)
            if batch := self._next_batch():
                await self._through(batch)

    async def _wait_for_others(self, until_s: float) -> None:
        pause_s = until_s - asyncio.get_running_loop().time()
        if pause_s <= 0 or len(self._waiting) >= self._size:
            return
        self._is_full.clear()
        try:
            await asyncio.wait_for(self._is_full.wait(), pause_s)
        except TimeoutError:
            return

    def _next_batch(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        while self._waiting and len(batch) < self._size:
            one = self._waiting.popleft()
            if not one.found.done():  # else its caller has gone
                batch.append(one)
        return batch

    async def _through(self, batch: list[_Waiting]) -> None:
        try:
            found = await self._run([one.sample for one in batch])
            answers = list(zip(batch, found, strict=True))
        except Exception as error:  # whatever it is, each caller gets it
            for one in batch:
                if not one.found.done():
                    one.found.set_exception(error)
            return
        for one, sample in answers:
            if not one.found.done():
                one.found.set_result(sample)
