"""Takes one image through the workers of all stages, and retries where a worker dies.

A worker that dies loses the images that it was working on. They are sent again: in a batch, as
before, the first time; then each alone, one after another, so that an image that kills its workers
is found without the others of its batch being blamed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from pad_pipeline.engine.isolation import DEATHS_ALONE, QUARANTINED
from pad_pipeline.engine.sample import Sample
from pad_pipeline.records import RecordError

logger = logging.getLogger(__name__)

DEATHS_IN_BATCH = 2
"""Workers that may die with an image in a batch before it is sent alone."""
PAUSE_S = 0.2
_LOG_PERIOD_S = 1.0


class WorkerLost(Exception):
    """The worker died, or could not be reached, before it had a result."""


@dataclass(frozen=True, slots=True)
class StageCalls:
    """A stage's workers: `together` may put the sample in a batch, `alone` does not.

    Both give the sample back with what the stage found or an error, and raise `WorkerLost`.
    """

    name: str
    together: Callable[[Sample], Awaitable[Sample]]
    alone: Callable[[Sample], Awaitable[Sample]]


class Dispatcher:
    """Takes samples through the stages; never raises for one of them."""

    def __init__(self, stages: Sequence[StageCalls], pause_s: float = PAUSE_S) -> None:
        self._stages = stages
        self._pause_s = pause_s
        self._alone = {stage.name: asyncio.Lock() for stage in stages}
        self._logged_s = dict.fromkeys(self._alone, -math.inf)

    async def __call__(self, sample: Sample) -> Sample:
        """The sample after all stages, or with the error of the one that failed."""
        for stage in self._stages:
            sample = await self._run_stage(stage, sample)
            if sample.error is not None:
                break
        return sample

    async def _run_stage(self, stage: StageCalls, sample: Sample) -> Sample:
        for _ in range(DEATHS_IN_BATCH):
            try:
                return await stage.together(sample)
            except WorkerLost as error:
                await self._report(stage, error)
        for _ in range(DEATHS_ALONE):
            async with self._alone[stage.name]:
                try:
                    return await stage.alone(sample)
                except WorkerLost as error:
                    await self._report(stage, error)
        sample.error = RecordError(
            stage=stage.name,
            type=QUARANTINED,
            message=f"{DEATHS_IN_BATCH + DEATHS_ALONE} workers died with this image, the last "
            f"{DEATHS_ALONE} with it alone: a crash in native code, or out of memory",
        )
        return sample

    async def _report(self, stage: StageCalls, error: WorkerLost) -> None:
        now_s = time.monotonic()
        # called for each image of a batch when its worker dies
        if now_s - self._logged_s[stage.name] > _LOG_PERIOD_S:
            self._logged_s[stage.name] = now_s
            logger.warning("a worker of %s was lost; its images are tried again", stage.name)
            logger.debug("lost worker: %s", error)
        await asyncio.sleep(self._pause_s)
