"""What runs on the workers of a run: reading chunks, and the actor around each stage."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions
from ray.actor import ActorHandle
from ray.util import metrics

from pad_pipeline.annotate.guard import build_guarded
from pad_pipeline.annotate.plan import StageSpec
from pad_pipeline.annotate.quarantine import DEATHS_LOADING, WORKER_DIED, Careful
from pad_pipeline.annotate.reading import read_samples
from pad_pipeline.annotate.run_files import read_images
from pad_pipeline.annotate.sample import Sample, to_record, without_pixels
from pad_pipeline.annotate.stages import Stage
from pad_pipeline.annotate.watchdog import Watchdog
from pad_pipeline.records import RecordError, records_to_table
from pad_pipeline.sources import table_to_rows

_NOTE_TIMEOUT_S = 30.0
_LATENCY_BUCKETS_S = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk's way through one operator."""

    stage: str
    seconds: float
    images: int
    failed: int


@dataclass(slots=True)
class Cargo:
    """What passes between operators: one chunk.

    `content` are its samples between stages, an Arrow IPC stream of its records at the end, or why
    a stage could not be built. `seconds` is the time by stage, `started_s` when the first stage
    took it (`time.time()`).
    """

    chunk: int
    content: list[Sample] | bytes | RecordError
    seconds: dict[str, float] = field(default_factory=dict)
    passages: list[Passage] = field(default_factory=list)
    started_s: float | None = None


def read_chunks(
    batch: pa.Table, *, images_url: str, rows_per_shard: int, chunk_size: int
) -> Iterator[pa.Table]:
    """The encoded images of the given chunks, a row per chunk; a task of the run's first operator.

    An image that cannot be read becomes a sample with an error. Raises `UserError` where a store
    has not answered for as long as its retries last.
    """
    for task in batch.to_pylist():
        images = read_images(images_url, task["shard"])
        for chunk in task["chunks"]:
            start = chunk * chunk_size - task["shard"] * rows_per_shard
            rows = table_to_rows(images.slice(start, chunk_size))
            yield _to_block(Cargo(chunk, read_samples(rows)))


class StageWorker:
    """The actor of one stage: builds the stage once, then takes chunk after chunk.

    The stage is built in the background, so all stages load their models at the same time. A stage
    that cannot be built answers every chunk with the reason. `notes` is the actor of the run's
    `Attempts`, which a worker asks after a death only.
    """

    def __init__(
        self, spec: StageSpec, is_last: bool, notes: ActorHandle, hang_after_s: float
    ) -> None:
        self._name = spec.name
        self._keep_bytes = spec.keep_bytes
        self._is_last = is_last
        self._seconds: dict[str, float] = {}
        self._notes = _RemoteNotes(notes)
        self._died_before = bool(ray.get_runtime_context().was_current_actor_reconstructed)
        self._watch = Watchdog(hang_after_s, self._seconds, self._notes.hung)
        self._metrics = StageMetrics(spec.name)
        self._stage = ThreadPoolExecutor(1).submit(self._build, spec)

    def __call__(self, batch: pa.Table) -> pa.Table:
        stage = self._stage.result()
        [buffer] = batch["payload"]
        cargo: Cargo = pickle.loads(buffer.as_buffer())
        cargo.started_s = cargo.started_s or time.time()
        if isinstance(stage, RecordError) and not isinstance(cargo.content, RecordError):
            cargo.content = stage
        if isinstance(cargo.content, RecordError) or isinstance(stage, RecordError):
            return _to_block(cargo)
        assert isinstance(cargo.content, list)
        began_s = time.perf_counter()
        before = sum(sample.error is not None for sample in cargo.content)
        self._seconds.clear()
        samples = self._run(stage, cargo.chunk, cargo.content)
        if isinstance(samples, RecordError):
            cargo.content = samples
            return _to_block(cargo)
        for name, value in self._seconds.items():
            cargo.seconds[name] = cargo.seconds.get(name, 0.0) + value
        failed = sum(sample.error is not None for sample in samples) - before
        if self._is_last:
            cargo.content = _to_ipc(records_to_table([to_record(sample) for sample in samples]))
        else:
            cargo.content = without_pixels(samples, keep_bytes=self._keep_bytes)
        elapsed = time.perf_counter() - began_s
        cargo.passages.append(Passage(self._name, elapsed, len(samples) - before, failed))
        self._metrics.add(cargo.passages[-1], self._seconds)
        return _to_block(cargo)

    def _build(self, spec: StageSpec) -> Stage | RecordError:
        if self._died_before and self._notes.begin("load", spec.name) >= DEATHS_LOADING - 1:
            return RecordError(
                stage=spec.name,
                type=WORKER_DIED,
                message=f"its worker died {DEATHS_LOADING} times while it loaded the model, as "
                "happens where memory runs out or native code crashes",
            )
        stage = build_guarded(spec.name, spec.make, self._seconds)
        if self._died_before:
            self._notes.end("load", spec.name)
        return stage

    def _run(self, stage: Stage, chunk: int, samples: list[Sample]) -> list[Sample] | RecordError:
        if self._died_before:
            return Careful(self._name, stage, self._notes, self._watch)(chunk, samples)
        self._watch("chunk", self._name, chunk)
        try:
            return stage(samples)
        finally:
            self._watch()


class _RemoteNotes:
    """The run's `Attempts` behind its actor. A note that cannot be left is an error of Ray's."""

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


class StageMetrics:
    """A worker's figures for Ray's Prometheus endpoint, by stage."""

    def __init__(self, stage: str) -> None:
        self._tags = {"stage": stage}
        self._images = _metric(metrics.Counter, "pad_images", "Images that passed a stage.")
        self._failed = _metric(metrics.Counter, "pad_failures", "Images that failed in a stage.")
        self._busy = _metric(
            metrics.Counter, "pad_busy_seconds", "Time of the workers, by what it went into."
        )
        self._share = _metric(
            metrics.Gauge, "pad_busy_share", "Share of its time that a worker computes (0-1)."
        )
        self._latency = metrics.Histogram(
            "pad_batch_seconds",
            description="Time of a chunk of images in a stage.",
            boundaries=_LATENCY_BUCKETS_S,
            tag_keys=("stage",),
        )
        self._last_s = time.perf_counter()

    def add(self, passage: Passage, seconds: Mapping[str, float]) -> None:
        """Count one chunk."""
        # counters refuse zero
        if passage.images:
            self._images.inc(passage.images, self._tags)
        if passage.failed:
            self._failed.inc(passage.failed, self._tags)
        for name, value in seconds.items():
            if value > 0:
                self._busy.inc(value, {"stage": name})
        now_s = time.perf_counter()
        self._share.set(min(passage.seconds / max(now_s - self._last_s, 1e-9), 1.0), self._tags)
        self._last_s = now_s
        self._latency.observe(passage.seconds, self._tags)


def _metric(kind: Any, name: str, description: str) -> Any:
    return kind(name, description=description, tag_keys=("stage",))


def _to_ipc(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def _to_block(cargo: Cargo) -> pa.Table:
    data = pickle.dumps(cargo, protocol=pickle.HIGHEST_PROTOCOL)
    return pa.table({"payload": pa.array([data], pa.large_binary())})
