"""The run on Ray: chunks of images stream through the stages' actor pools into the ledger.

One row of the Ray data set is one chunk: the samples of `chunk_size` neighbouring images, pickled.
Chunks are the unit of batching, so a record never depends on timing, and of commitment. What is
left to do comes from the ledger; images that are finished are neither listed to a worker nor
opened. Encoded bytes cross the object store, pixels and masks never do.
"""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.exceptions
from ray.util import metrics

from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.samples import read_chunks
from pad_pipeline.engine.isolation import WORKER_DIED
from pad_pipeline.engine.messages import from_payload
from pad_pipeline.engine.metrics import StageTiming
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_backpressure import Waiting, bound_queues
from pad_pipeline.engine.ray_crash_tracker import start_crash_tracker
from pad_pipeline.engine.ray_errors import describe_cause, is_deterministic, to_user_error
from pad_pipeline.engine.ray_resources import READ_CPUS, fits_cluster
from pad_pipeline.engine.ray_worker import StageWorker
from pad_pipeline.engine.ray_worker_log import forward_logs, shown_worker_log
from pad_pipeline.engine.worker_replacement import REPLACE_WHEN_DEAD
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.records import RecordError

logger = logging.getLogger(__name__)

READERS_PER_WORKER = 2
STREAM_RETRIES = 3
"""Times that the stream is started again without any progress in between after Ray gave it up."""


class CompletedChunk(NamedTuple):
    """A chunk that has passed all stages; `records` are a table under `PAD_SCHEMA`."""

    chunk: int
    records: pa.Table
    seconds: Mapping[str, float]
    timings: Sequence[StageTiming]
    started_s: float


def stream(
    ledger: Ledger,
    specs: Sequence[StageSpec],
    *,
    hang_after_s: float,
    waiting: Waiting | None = None,
) -> Iterator[CompletedChunk]:
    """Every unfinished chunk with its records, in the order of completion.

    Ray must be initialised. Errors of single images are in the records; a worker that dies, or in
    which nothing moves for `hang_after_s`, is replaced and its images tried again. `waiting` is
    kept up to date with the queues. Raises `UserError` where a stage cannot be built, or Ray gives
    up `STREAM_RETRIES` times in a row.
    """
    tracker = start_crash_tracker()
    waiting = {} if waiting is None else waiting
    gauge = _QueueGauge(waiting)
    failures_in_a_row = 0
    with shown_worker_log() as log:
        while pending := list(ledger.pending()):
            before = ledger.num_finished
            data = _dataset(ledger, pending, specs, tracker, log, hang_after_s, waiting)
            try:
                # not `iter_batches`, which reports every single block to an actor of statistics
                for bundle in data.iter_internal_ref_bundles():
                    gauge.report()
                    for block in ray.get(list(bundle.block_refs)):  # pyright: ignore
                        yield from map(_to_completed_chunk, block["payload"])
                return
            except ray.exceptions.RayError as error:
                failures_in_a_row = 1 if ledger.num_finished > before else failures_in_a_row + 1
                user_error = to_user_error(error)
                if is_deterministic(error) or failures_in_a_row > STREAM_RETRIES:
                    raise user_error from error
                logger.warning(
                    "the cluster lost chunks that were being processed (%s); processing them again",
                    describe_cause(error),
                )


class _QueueGauge:
    """The chunks that wait before each stage, for Ray's Prometheus endpoint."""

    def __init__(self, waiting: Waiting) -> None:
        self._waiting = waiting
        self._gauge = metrics.Gauge(
            "pad_waiting_chunks",
            description="Chunks of images that wait before a stage.",
            tag_keys=("stage",),
        )
        self._last_s = 0.0

    def report(self) -> None:
        """Set the gauge, at most once a second."""
        if time.monotonic() - self._last_s < 1.0:
            return
        self._last_s = time.monotonic()
        for stage, number in list(self._waiting.items()):
            self._gauge.set(number, {"stage": stage})


def _to_completed_chunk(payload: pa.LargeBinaryScalar) -> CompletedChunk:
    """A chunk out of the last stage; raises `UserError` where a stage could not be built."""
    message = from_payload(payload)
    if isinstance(message.content, RecordError):
        raise _build_error(message.content)
    assert isinstance(message.content, bytes)
    records = pa.ipc.open_stream(message.content).read_all()
    started_s = message.started_s or time.time()
    return CompletedChunk(message.chunk, records, message.seconds, message.timings, started_s)


def _dataset(
    ledger: Ledger,
    pending: Sequence[tuple[int, list[int]]],
    specs: Sequence[StageSpec],
    tracker: Any,
    log: Any,
    hang_after_s: float,
    waiting: Waiting,
) -> ray.data.Dataset:
    """The operators: read the chunks of each unfinished shard, then a pool of workers per stage.

    Ray replaces a worker that dies (`REPLACE_WHEN_DEAD`).
    """
    _configure(waiting, ledger.layout.chunk_size)
    fits = fits_cluster(specs)
    tasks = [{"shard": shard, "chunks": np.asarray(chunks)} for shard, chunks in pending]
    data = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        read_chunks,  # pyright: ignore[reportArgumentType] (its hints know no generators)
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={
            "images_url": ledger.images_url,
            "rows_per_shard": ledger.layout.rows_per_shard,
            "chunk_size": ledger.layout.chunk_size,
            "prepare": partial(forward_logs, log),
        },
        num_cpus=READ_CPUS,
        # More readers would only hold processes and keep more shards open at once.
        compute=ray.data.TaskPoolStrategy(READERS_PER_WORKER * specs[0].pool.max_workers),
    )
    for position, spec in enumerate(specs):
        # A class of its own for each operator: Ray names operators after their class.
        worker = type(spec.name, (StageWorker,), {})
        with warnings.catch_warnings():
            # Ray warns of retries without a bound; `isolation` bounds them.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            data = data.map_batches(
                worker,
                fn_constructor_kwargs={
                    "spec": spec,
                    "is_last": position == len(specs) - 1,
                    "tracker": tracker,
                    "log": log,
                    "hang_after_s": hang_after_s,
                },
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=spec.pool.max_workers if fits else spec.pool.min_workers,
                    max_size=spec.pool.max_workers,
                    # One more waits, so that its images are there when a lane is free.
                    max_tasks_in_flight_per_actor=max(3, spec.in_flight + 1),
                    max_concurrent_calls_per_actor=spec.in_flight,
                    enable_true_multi_threading=spec.in_flight > 1,
                ),
                num_cpus=spec.pool.cpus,
                num_gpus=spec.pool.gpus or None,
                **REPLACE_WHEN_DEAD,
            )
    return data


def _build_error(error: RecordError) -> UserError:
    """The error of a stage that could not be built on its worker, as its user should read it."""
    if error.type == UserError.__name__:
        return UserError(error.message)
    if error.type == WORKER_DIED:
        return UserError(
            f"the stage {error.stage!r} cannot go on: {error.message}. What was finished is kept; ",
            Setting("ray_logs", True),
            " shows the tracebacks",
        )
    return UserError(
        f"the stage {error.stage!r} could not be built on its worker: {error.type}: {error.message}"
    )


def _configure(waiting: Waiting, chunk_size: int) -> None:
    """Set Ray Data up for this run: a block per chunk, bounded queues, no output of its own."""
    context = ray.data.DataContext.get_current()
    # Every row is a chunk of images; a block of its own lets it travel as soon as it is there.
    context.target_max_block_size = 1
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    # Measuring each task's memory takes a thread per task, and nothing here reads the result.
    context.memory_usage_poll_interval_s = None
    # Ray Data ends workers of a stage that waits for the next one, and loads their models again
    # soon afterwards. No utilisation is below this.
    context.autoscaling_config.actor_pool_util_downscaling_threshold = -1.0
    bound_queues(context, waiting, chunk_size)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
