"""The runs of a plan by several workers on Ray, each with scenes and models of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray

from pad_pipeline.engine import ray_session
from pad_pipeline.engine.ray_pool import actor_pool
from pad_pipeline.errors import plural

logger = logging.getLogger(__name__)

_MAX_RESTARTS = 3

_Task = TypeVar("_Task")
_Found = TypeVar("_Found")


def work_on_ray(
    prepare: Callable[[], Callable[[_Task], _Found]],
    plan: Sequence[_Task],
    *,
    workers: int,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> Iterator[tuple[_Task, _Found]]:
    """Each task of the plan and what was found, as they come.

    `prepare` runs once in every worker. Joins the Ray cluster at `ray_address` or the one that is
    there, else starts Ray here. A worker that dies is started again and its task repeated. Raises
    `UserError` where a worker cannot go on.
    """
    workers = min(workers, len(plan))
    with ray_session.shut_down_after():
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        if cluster is None:
            ray_session.start_here(workers, verbose=ray_logs, shared_cores=False)
        actor: Any = ray.remote(
            num_cpus=1, max_restarts=_MAX_RESTARTS, max_task_retries=_MAX_RESTARTS
        )(_Worker)
        logger.info("%s at once on Ray; each first draws its scenes", plural(workers, "worker"))
        threads = max(1, (os.cpu_count() or 1) // workers)
        with actor_pool([actor.remote(prepare, threads) for _ in range(workers)]) as pool:
            found: Any = pool.map_unordered(lambda each, task: each.work.remote(task), list(plan))
            yield from found


class _Worker:
    """It prepares itself with its first task, so that its errors come from there."""

    def __init__(self, prepare: Callable[[], Callable[[Any], Any]], threads: int) -> None:
        self._prepare = prepare
        self._threads = threads
        self._work: Callable[[Any], Any] | None = None

    def work(self, task: Any) -> tuple[Any, Any]:
        """The task and what was found."""
        if self._work is None:
            import torch

            torch.set_num_threads(self._threads)
            self._work = self._prepare()
        return task, self._work(task)
