"""Dynamic batching: the samples that wait when a stage becomes free form its next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from pad_pipeline.engine.sample import Sample

Run = Callable[[list[Sample]], Awaitable[list[Sample]]]


@dataclass(frozen=True, slots=True)
class _PendingSample:
    sample: Sample
    arrived_s: float
    result: asyncio.Future[Sample] = field(default_factory=asyncio.Future)


class DynamicBatcher:
    """Calls `run` with at most `size` samples, one call at a time; for one event loop.

    A batch is formed when the one before has ended. Ray Serve's `serve.batch` forms it when its
    first request has waited for `wait_s`, so that a busy stage gets many small ones.
    """

    def __init__(self, run: Run, *, size: int, wait_s: float) -> None:
        self._run = run
        self._size = size
        self._wait_s = wait_s
        self._pending: deque[_PendingSample] = deque()
        self._is_full = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, sample: Sample) -> Sample:
        """What `run` returns for the sample, which waits up to `wait_s` for others.

        Raises what `run` raises for its batch. A sample whose caller is cancelled while it waits
        is left out.
        """
        pending = _PendingSample(sample, asyncio.get_running_loop().time())
        self._pending.append(pending)
        if len(self._pending) >= self._size:
            self._is_full.set()
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run_pending())
        return await pending.result

    async def _run_pending(self) -> None:
        while self._pending:
            await self._wait_until_full(self._pending[0].arrived_s + self._wait_s)
            if batch := self._next_batch():
                await self._run_batch(batch)

    async def _wait_until_full(self, deadline_s: float) -> None:
        timeout_s = deadline_s - asyncio.get_running_loop().time()
        if timeout_s <= 0 or len(self._pending) >= self._size:
            return
        self._is_full.clear()
        try:
            await asyncio.wait_for(self._is_full.wait(), timeout_s)
        except TimeoutError:
            return

    def _next_batch(self) -> list[_PendingSample]:
        batch: list[_PendingSample] = []
        while self._pending and len(batch) < self._size:
            pending = self._pending.popleft()
            if not pending.result.done():  # else its caller was cancelled
                batch.append(pending)
        return batch

    async def _run_batch(self, batch: list[_PendingSample]) -> None:
        try:
            samples = await self._run([pending.sample for pending in batch])
            results = list(zip(batch, samples, strict=True))
        except Exception as error:  # whatever it is, each caller gets it
            for pending in batch:
                if not pending.result.done():
                    pending.result.set_exception(error)
            return
        for pending, sample in results:
            if not pending.result.done():
                pending.result.set_result(sample)
