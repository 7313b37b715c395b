"""The run on Ray: chunks of images stream through the stages' actor pools into the ledger.

One row of the Ray data set is one chunk: the samples of `chunk_size` neighbouring images, pickled.
Chunks are the unit of batching, so a record never depends on timing, and of commitment. What is
left to do comes from the ledger; images that are finished are neither listed to a worker nor
opened. Encoded bytes cross the object store, pixels and masks never do.
"""

from __future__ import annotations

import logging
import pickle
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray
import ray.data
import ray.exceptions
from ray.util import metrics

from pad_pipeline.annotate import quarantine
from pad_pipeline.annotate.bounded_queues import Waiting, bound_queues
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.plan import StageSpec
from pad_pipeline.annotate.quarantine import WORKER_DIED, Attempts
from pad_pipeline.annotate.workers import Cargo, Passage, StageWorker, read_chunks
from pad_pipeline.errors import UserError
from pad_pipeline.ray_session import Cluster
from pad_pipeline.records import RecordError

logger = logging.getLogger(__name__)

READ_CPUS = 0.25
READERS_PER_WORKER = 2
STREAM_RETRIES = 3
"""Times that the stream is begun again, in a row without any progress, after Ray gave up on it."""

# "module.NameError: message", the line that ends a traceback
_ERROR_LINE = re.compile(r"^(?:[\w.]+\.)?(\w+(?:Error|Exception|Died|Exit)): (.+)$", re.MULTILINE)
_WRAPPERS = ("UserCodeException", "SystemException", "RayTaskError")


class Finished(NamedTuple):
    """A chunk that has passed all stages; `records` are a table under `PAD_SCHEMA`."""

    chunk: int
    records: pa.Table
    seconds: Mapping[str, float]
    passages: Sequence[Passage]
    started_s: float


def slots(specs: Sequence[StageSpec]) -> int:
    """CPU slots that the stages reserve at most, and one for reading."""
    return round(sum(spec.pool.max_workers * spec.pool.cpus for spec in specs) + 0.5) + 1


def check_room(cluster: Cluster, specs: Sequence[StageSpec]) -> None:
    """Say so where the cluster cannot hold the stages' smallest pools at present."""
    wanted_cpus = sum(spec.pool.min_workers * spec.pool.cpus for spec in specs)
    wanted_gpus = sum(spec.pool.min_workers * spec.pool.gpus for spec in specs)
    for what, option, wanted, there in (
        ("CPU slots", "cpus", wanted_cpus, cluster.num_cpus),
        ("GPUs", "gpus", wanted_gpus, cluster.num_gpus),
    ):
        if wanted > there:
            logger.warning(
                "the stages reserve %g %s and the cluster has %g at present: waiting for more; "
                "lower --tag.pool.%s and the like, or use --layout fused, to do with less",
                wanted,
                what,
                there,
                option,
            )


def stream(
    ledger: Ledger,
    specs: Sequence[StageSpec],
    *,
    hang_after_s: float = 1800.0,
    waiting: Waiting | None = None,
) -> Iterator[Finished]:
    """Every unfinished chunk with its records, in the order of completion.

    Ray must be initialised. Errors of single images are in the records; a worker that dies, or in
    which nothing moves for `hang_after_s`, is replaced and its images tried again. `waiting` is
    kept up to date with the queues. Raises `UserError` where a stage cannot be built, or Ray gives
    up `STREAM_RETRIES` times in a row.
    """
    keeper = ray.remote(Attempts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1)
    notes = keeper.remote(quarantine.HOPELESS_AFTER)
    waiting = {} if waiting is None else waiting
    gauge = _QueueGauge(waiting)
    failures_in_a_row = 0
    while pending := list(ledger.pending()):
        before = ledger.num_finished
        data = _dataset(ledger, pending, specs, notes, hang_after_s, waiting)
        try:
            # not `iter_batches`, which tells an actor of statistics about every single block
            for bundle in data.iter_internal_ref_bundles():
                gauge.report()
                for block in ray.get(list(bundle.block_refs)):  # pyright: ignore
                    yield from map(_finished, block["payload"])
            return
        except ray.exceptions.RayError as error:
            failures_in_a_row = 1 if ledger.num_finished > before else failures_in_a_row + 1
            told = _explain(error)
            if _comes_again(error) or failures_in_a_row > STREAM_RETRIES:
                raise told from error
            logger.warning(
                "the cluster lost work that was on its way (%s); going on with what is left",
                reason_of(error),
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
        """Tell the endpoint, at most once a second."""
        if time.monotonic() - self._last_s < 1.0:
            return
        self._last_s = time.monotonic()
        for stage, number in list(self._waiting.items()):
            self._gauge.set(number, {"stage": stage})


def _finished(buffer: pa.LargeBinaryScalar) -> Finished:
    """A chunk out of the last stage; raises `UserError` where a stage could not be built."""
    cargo: Cargo = pickle.loads(buffer.as_buffer())
    if isinstance(cargo.content, RecordError):
        raise _not_built(cargo.content)
    assert isinstance(cargo.content, bytes)
    records = pa.ipc.open_stream(cargo.content).read_all()
    started_s = cargo.started_s or time.time()
    return Finished(cargo.chunk, records, cargo.seconds, cargo.passages, started_s)


def _dataset(
    ledger: Ledger,
    pending: Sequence[tuple[int, list[int]]],
    specs: Sequence[StageSpec],
    notes: Any,
    hang_after_s: float,
    waiting: Waiting,
) -> ray.data.Dataset:
    """The operators: read chunks of each unfinished shard, then one actor pool per stage."""
    _configure(waiting)
    has_room = _has_room(specs)
    tasks = [{"shard": shard, "chunks": np.asarray(chunks)} for shard, chunks in pending]
    data = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
        read_chunks,  # pyright: ignore[reportArgumentType] (its hints know no generators)
        batch_size=1,
        batch_format="pyarrow",
        fn_kwargs={
            "images_url": ledger.images_url,
            "rows_per_shard": ledger.layout.rows_per_shard,
            "chunk_size": ledger.layout.chunk_size,
        },
        num_cpus=READ_CPUS,
        # More readers would only hold processes and keep more shards open at once.
        compute=ray.data.TaskPoolStrategy(READERS_PER_WORKER * specs[0].pool.max_workers),
    )
    for position, spec in enumerate(specs):
        # A class of its own for each operator: Ray names operators after their class.
        worker = type(spec.name, (StageWorker,), {})
        with warnings.catch_warnings():
            # The retries are bounded by what the workers note, see `quarantine`.
            warnings.filterwarnings("ignore", message=".*ray_remote_args.*")
            data = data.map_batches(
                worker,
                fn_constructor_kwargs={
                    "spec": spec,
                    "is_last": position == len(specs) - 1,
                    "notes": notes,
                    "hang_after_s": hang_after_s,
                },
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(
                    min_size=spec.pool.max_workers if has_room else spec.pool.min_workers,
                    max_size=spec.pool.max_workers,
                    max_tasks_in_flight_per_actor=3,
                ),
                num_cpus=spec.pool.cpus,
                num_gpus=spec.pool.gpus or None,
                max_restarts=-1,
                max_task_retries=-1,
            )
    return data


def _has_room(specs: Sequence[StageSpec]) -> bool:
    """Whether all workers of all stages fit now, so that none can keep another stage's from it.

    They start at once then. Ray Data would start one of each, and the others when chunks pile up,
    so that models load twice in a row.
    """
    free = ray.available_resources()
    cpus = sum(spec.pool.max_workers * spec.pool.cpus for spec in specs) + READ_CPUS
    gpus = sum(spec.pool.max_workers * spec.pool.gpus for spec in specs)
    return cpus <= free.get("CPU", 0.0) and gpus <= free.get("GPU", 0.0)


def _explain(error: ray.exceptions.RayError) -> UserError:
    """What a person needs of an error that ended the stream."""
    return UserError(
        f"a worker failed: {reason_of(error)}. What was finished is kept and the same command "
        "continues; --debug --ray-logs shows the whole story"
    )


def _comes_again(error: ray.exceptions.RayError) -> bool:
    """Whether it is an error of the code that the workers run, and not of the cluster."""
    cause = getattr(error, "cause", None)
    return isinstance(error, ray.exceptions.RayTaskError) and not isinstance(
        cause, ray.exceptions.RayError
    )


def reason_of(error: Exception) -> str:
    """What an error of Ray's says happened: the last line of its story that is not Ray's own."""
    # Ray puts the causes above and its own wrapping of them below.
    found = [match.groups() for match in _ERROR_LINE.finditer(str(error))]
    told = [(name, message) for name, message in found if name not in _WRAPPERS]
    name, message = told[-1] if told else (type(error).__name__, str(error).splitlines()[0])
    return (message if name == UserError.__name__ else f"{name}: {message}").rstrip(".")


def _not_built(error: RecordError) -> UserError:
    """What a person needs of a stage that could not be built on its worker."""
    if error.type == UserError.__name__:
        return UserError(error.message)
    if error.type == WORKER_DIED:
        return UserError(
            f"the stage {error.stage!r} is given up: {error.message}. What was finished is kept; "
            "--debug --ray-logs shows the whole story"
        )
    return UserError(
        f"the stage {error.stage!r} could not be built on its worker: {error.type}: {error.message}"
    )


def _configure(waiting: Waiting) -> None:
    """Ray Data as this run needs it: a block per chunk, no output of its own."""
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
    bound_queues(context, waiting)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
