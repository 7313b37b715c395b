"""Workers on Ray for tasks that come one by one; they end with the work they were started for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
import ray.exceptions
from ray.util import ActorPool

from pad_pipeline.engine import ray_session
from pad_pipeline.engine.ray_errors import to_user_error
from pad_pipeline.errors import UserError

_MAX_RESTARTS = 3
_PER_WORKER = 2
"""Tasks that each worker has in hand or waiting, so that memory does not grow with their number."""

_Task = TypeVar("_Task")
_Found = TypeVar("_Found")


@contextmanager
def ray_session_for(slots: int, *, ray_address: str | None, ray_logs: bool) -> Iterator[None]:
    """Ray while the block runs, afterwards as it was found.

    That is the cluster at `ray_address` or the one that is there, else one that is started here,
    with that many CPU slots at least. Raises `UserError` where the named one cannot be reached.
    """
    with ray_session.shut_down_after():
        if ray_session.join(ray_address, verbose=ray_logs) is None:
            ray_session.start_here(slots, verbose=ray_logs, shared_cores=False)
        yield


def work_on_ray(
    prepare: Callable[[], Callable[[_Task], _Found]],
    tasks: Iterable[_Task],
    *,
    workers: int,
    cpus: float = 1.0,
    gpus: float = 0.0,
    threads: int | None = None,
) -> Iterator[_Found]:
    """What was found of each task, as it comes, by that many workers of the Ray that is joined.

    Each reserves `cpus` slots and `gpus` GPUs, and `prepare` gives what works on a task there:
    with the first one, so that its errors are that task's. `threads` are torch's in a worker
    without a GPU, by default its part of a machine's cores. A worker that dies is started again
    and its task repeated. Raises the `UserError` of a worker, and one where Ray cannot go on.
    """
    actor: Any = ray.remote(
        num_cpus=cpus,
        num_gpus=gpus,
        max_restarts=_MAX_RESTARTS,
        max_task_retries=_MAX_RESTARTS,
    )(_Worker)
    threads = threads or max(1, (os.cpu_count() or 1) // workers)
    in_hand = 0
    with _pool([actor.remote(prepare, threads) for _ in range(workers)]) as pool:
        for task in tasks:
            pool.submit(lambda each, task: each.work.remote(task), task)
            in_hand += 1
            if in_hand == _PER_WORKER * workers:
                yield pool.get_next_unordered()  # pyright: ignore[reportReturnType]
                in_hand -= 1
        while pool.has_next():
            yield pool.get_next_unordered()  # pyright: ignore[reportReturnType]


@contextmanager
def _pool(actors: Sequence[Any]) -> Iterator[ActorPool]:
    try:
        yield ActorPool(list(actors))
    except ray.exceptions.RayTaskError as error:
        cause = getattr(error, "cause", None)
        raise cause if isinstance(cause, UserError) else to_user_error(error) from error
    except ray.exceptions.RayError as error:
        raise to_user_error(error) from error
    finally:
        # The traceback of an error that somebody keeps would keep them too.
        for actor in actors:
            ray.kill(actor)


class _Worker:
    def __init__(self, prepare: Callable[[], Callable[[Any], Any]], threads: int) -> None:
        self._prepare = prepare
        self._threads = threads
        self._work: Callable[[Any], Any] | None = None

    def work(self, task: Any) -> Any:
        """What was found of the task."""
        if self._work is None:
            import torch

            if not ray.get_gpu_ids():
                torch.set_num_threads(self._threads)
            self._work = self._prepare()
        return self._work(task)
