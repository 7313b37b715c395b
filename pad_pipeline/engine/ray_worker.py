"""The worker of a stage: an actor that Ray replaces when it dies (see `worker_replacement`).

A new worker knows that it replaces a dead one. It then reports to the run's `CrashTracker` what it
begins and ends, and runs its stage as an `IsolatingStage`, which finds the image at fault.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
import ray
from ray.actor import ActorHandle

from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.guard import build_guarded
from pad_pipeline.engine.isolation import DEATHS_LOADING, WORKER_DIED, IsolatingStage
from pad_pipeline.engine.lanes import Lane, Lanes, open_lanes
from pad_pipeline.engine.messages import from_payload, to_block
from pad_pipeline.engine.metrics import StageTiming
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_crash_tracker import RemoteCrashTracker
from pad_pipeline.engine.ray_metrics import PrometheusMetrics
from pad_pipeline.engine.ray_worker_log import forward_logs
from pad_pipeline.engine.sample import Sample, to_record, without_pixels
from pad_pipeline.engine.turns import Turns
from pad_pipeline.engine.watchdog import Watchdog
from pad_pipeline.records import RecordError, records_to_table


class StageWorker:
    """The actor of one stage: builds the stage once, then takes chunk after chunk.

    It is called by as many threads as chunks are in flight, each with a chunk of its own.
    The stage is built in the background, so all stages load their models at the same time. Where it
    cannot be built, every chunk is returned with the reason. `tracker` is the actor of the run's
    `CrashTracker`, `log` that of its `WorkerLog`.
    """

    def __init__(
        self,
        spec: StageSpec,
        is_last: bool,
        tracker: ActorHandle,
        log: ActorHandle,
        hang_after_s: float,
    ) -> None:
        self._log = forward_logs(log)
        self._name = spec.name
        self._keep_bytes = spec.keep_bytes
        self._is_last = is_last
        self._tracker = RemoteCrashTracker(tracker)
        self._replaces_dead = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._watchdog = Watchdog(hang_after_s, self._tracker.record_hang)
        self._turns = Turns()
        self._metrics = PrometheusMetrics(spec.name)
        self._lanes = ThreadPoolExecutor(1).submit(self._build, spec)

    def __call__(self, batch: pa.Table) -> pa.Table:
        lanes = self._lanes.result()
        [payload] = batch["payload"]
        message = from_payload(payload)
        message.started_s = message.started_s or time.time()
        if isinstance(lanes, RecordError) and not isinstance(message.content, RecordError):
            message.content = lanes
        if isinstance(message.content, RecordError) or isinstance(lanes, RecordError):
            return to_block(message)
        assert isinstance(message.content, list)
        before = sum(sample.error is not None for sample in message.content)
        with lanes.take() as use:
            lane = use.lane
            began_s = time.perf_counter()
            samples = self._run(lane, message.chunk, message.content)
            if isinstance(samples, RecordError):
                message.content = samples
                return to_block(message)
            seconds = dict(lane.seconds)
            passes = lane.stage.take_passes() if isinstance(lane.stage, Chain) else {}
            failed = sum(sample.error is not None for sample in samples) - before
            if self._is_last:
                table = records_to_table([to_record(sample) for sample in samples])
                message.content = _to_ipc(table)
            else:
                message.content = without_pixels(samples, keep_bytes=self._keep_bytes)
            elapsed_s = time.perf_counter() - began_s
        for name, value in seconds.items():
            message.seconds[name] = message.seconds.get(name, 0.0) + value
        images = len(samples) - before
        timing = StageTiming(self._name, elapsed_s, images, failed, use.busy_s, passes)
        message.timings.append(timing)
        self._metrics.add(timing, seconds)
        return to_block(message)

    def _build(self, spec: StageSpec) -> Lanes | RecordError:
        if self._replaces_dead and self._tracker.begin("load", spec.name) >= DEATHS_LOADING - 1:
            return RecordError(
                stage=spec.name,
                type=WORKER_DIED,
                message=f"its worker died {DEATHS_LOADING} times while it loaded the model, as "
                "happens where memory runs out or native code crashes",
            )
        lanes = build_guarded(spec.name, self._open_lanes, spec)
        if self._replaces_dead:
            self._tracker.end("load", spec.name)
        return lanes

    def _open_lanes(self, spec: StageSpec) -> Lanes:
        return Lanes(open_lanes(spec.make, spec.in_flight, self._watchdog.follow))

    def _run(self, lane: Lane, chunk: int, samples: list[Sample]) -> list[Sample] | RecordError:
        if self._replaces_dead:
            isolating = IsolatingStage(
                self._name, lane.stage, self._tracker, lane.watch, self._turns
            )
            return isolating(chunk, samples)
        lane.watch("chunk", self._name, chunk)
        try:
            return lane.stage(samples)
        finally:
            lane.watch()
            self._log.flush()


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
