"""The actor around each stage of a run, and how it reaches the run's `CrashTracker`."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions
from ray.actor import ActorHandle

from pad_pipeline.engine.guard import build_guarded
from pad_pipeline.engine.isolation import DEATHS_LOADING, WORKER_DIED, IsolatingStage
from pad_pipeline.engine.messages import from_payload, to_block
from pad_pipeline.engine.metrics import StageTiming
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_metrics import PrometheusMetrics
from pad_pipeline.engine.sample import Sample, to_record, without_pixels
from pad_pipeline.engine.stages import Stage
from pad_pipeline.engine.watchdog import Watchdog
from pad_pipeline.records import RecordError, records_to_table

_NOTE_TIMEOUT_S = 30.0
_LATENCY_BUCKETS_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


class StageWorker:
    """The actor of one stage: builds the stage once, then takes chunk after chunk.

    The stage is built in the background, so all stages load their models at the same time. A stage
    that cannot be built answers every chunk with the reason. `tracker` is the actor of the run's
    `CrashTracker`, which a worker calls after a death only.
    """

    def __init__(
        self, spec: StageSpec, is_last: bool, tracker: ActorHandle, hang_after_s: float
    ) -> None:
        self._name = spec.name
        self._keep_bytes = spec.keep_bytes
        self._is_last = is_last
        self._seconds: dict[str, float] = {}
        self._tracker = RemoteCrashTracker(tracker)
        self._died_before = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._watch = Watchdog(hang_after_s, self._seconds, self._tracker.hung)
        self._metrics = PrometheusMetrics(spec.name)
        self._stage = ThreadPoolExecutor(1).submit(self._build, spec)

    def __call__(self, batch: pa.Table) -> pa.Table:
        stage = self._stage.result()
        [payload] = batch["payload"]
        message = from_payload(payload)
        message.started_s = message.started_s or time.time()
        if isinstance(stage, RecordError) and not isinstance(message.content, RecordError):
            message.content = stage
        if isinstance(message.content, RecordError) or isinstance(stage, RecordError):
            return to_block(message)
        assert isinstance(message.content, list)
        began_s = time.perf_counter()
        before = sum(sample.error is not None for sample in message.content)
        self._seconds.clear()
        samples = self._run(stage, message.chunk, message.content)
        if isinstance(samples, RecordError):
            message.content = samples
            return to_block(message)
        for name, value in self._seconds.items():
            message.seconds[name] = message.seconds.get(name, 0.0) + value
        failed = sum(sample.error is not None for sample in samples) - before
        if self._is_last:
            message.content = _to_ipc(records_to_table([to_record(sample) for sample in samples]))
        else:
            message.content = without_pixels(samples, keep_bytes=self._keep_bytes)
        elapsed = time.perf_counter() - began_s
        message.timings.append(StageTiming(self._name, elapsed, len(samples) - before, failed))
        self._metrics.add(message.timings[-1], self._seconds)
        return to_block(message)

    def _build(self, spec: StageSpec) -> Stage | RecordError:
        if self._died_before and self._tracker.begin("load", spec.name) >= DEATHS_LOADING - 1:
            return RecordError(
                stage=spec.name,
                type=WORKER_DIED,
                message=f"its worker died {DEATHS_LOADING} times while it loaded the model, as "
                "happens where memory runs out or native code crashes",
            )
        stage = build_guarded(spec.name, spec.make, self._seconds)
        if self._died_before:
            self._tracker.end("load", spec.name)
        return stage

    def _run(self, stage: Stage, chunk: int, samples: list[Sample]) -> list[Sample] | RecordError:
        if self._died_before:
            return IsolatingStage(self._name, stage, self._tracker, self._watch)(chunk, samples)
        self._watch("chunk", self._name, chunk)
        try:
            return stage(samples)
        finally:
            self._watch()


class RemoteCrashTracker:
    """The run's `CrashTracker` behind its actor; an unanswered call is an error of Ray's."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    def begin(self, *what: str | int) -> int:
        return self._call("begin", *what)

    def end(self, *what: str | int) -> None:
        self._call("end", *what)

    def hung(self, seconds: float, *what: str | int) -> None:
        self._call("hung", seconds, *what)

    def deaths(self, *what: str | int) -> tuple[int, float | None]:
        return self._call("deaths", *what)

    def quarantined(self, stage: str, image_id: str) -> int:
        return self._call("quarantined", stage, image_id)

    def survived(self, stage: str, image_id: str) -> None:
        self._call("survived", stage, image_id)

    def _call(self, name: str, *arguments: Any) -> Any:
        return ray.get(getattr(self._actor, name).remote(*arguments), timeout=_NOTE_TIMEOUT_S)


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
