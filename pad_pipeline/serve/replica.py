"""What runs on the workers of the service: one stage, on dynamic batches."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor

from ray.actor import ActorHandle

from pad_pipeline.engine.metrics import StageTiming
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_metrics import PrometheusMetrics
from pad_pipeline.engine.ray_worker_log import forward_logs
from pad_pipeline.engine.sample import Sample, without_pixels
from pad_pipeline.engine.watchdog import Watchdog
from pad_pipeline.serve.batching import DynamicBatcher


class StageReplica:
    """The worker of one stage: pending samples go through it in batches of at most `batch_size`.

    A replica whose stage cannot be built raises, and Ray Serve tries again three times. One in
    which nothing moves for `hang_after_s` ends itself. `log` is the actor of the `WorkerLog` that
    its log messages go to.
    """

    def __init__(
        self,
        spec: StageSpec,
        *,
        batch_wait_s: float,
        hang_after_s: float,
        log: ActorHandle | None = None,
    ) -> None:
        self._log = forward_logs(log) if log is not None else None
        self._name = spec.name
        self._seconds: dict[str, float] = {}
        # the stage's own thread: Serve's event loop stays free while it computes
        self._thread = ThreadPoolExecutor(1)
        self._stage = self._thread.submit(spec.make, self._seconds).result()
        self._watch = Watchdog(hang_after_s, lambda *what: None).follow(self._seconds)
        self._metrics = PrometheusMetrics(spec.name)
        self._batcher = DynamicBatcher(self._run, size=spec.batch_size, wait_s=batch_wait_s)

    async def together(self, sample: Sample) -> Sample:
        """The sample with what the stage found or an error, without pixels or bytes."""
        return await self._batcher(sample)

    async def alone(self, sample: Sample) -> Sample:
        """The same, in a call of its own."""
        return (await self._run([sample]))[0]

    async def ready(self) -> None:
        """Return; a replica that can be called has its model."""

    async def _run(self, samples: list[Sample]) -> list[Sample]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, samples)

    def _work(self, samples: list[Sample]) -> list[Sample]:
        began_s = time.perf_counter()
        self._seconds.clear()
        self._watch("batch", self._name, len(samples))
        try:
            samples = self._stage(samples)
        finally:
            self._watch()
            if self._log is not None:
                self._log.flush()
        failed = sum(sample.error is not None for sample in samples)
        elapsed_s = time.perf_counter() - began_s
        self._metrics.add(StageTiming(self._name, elapsed_s, len(samples), failed), self._seconds)
        return without_pixels(samples, keep_bytes=False)
