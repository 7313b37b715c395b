"""The runs of a plan by several workers on Ray, each with scenes and models of its own."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from pad_pipeline.engine import ray_pool
from pad_pipeline.errors import plural

logger = logging.getLogger(__name__)

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
    with ray_pool.ray_session_for(workers, ray_address=ray_address, ray_logs=ray_logs):
        logger.info("%s at once on Ray; each first draws its scenes", plural(workers, "worker"))
        yield from ray_pool.work_on_ray(partial(_prepare, prepare), plan, workers=workers)


def _prepare(
    prepare: Callable[[], Callable[[_Task], _Found]],
) -> Callable[[_Task], tuple[_Task, _Found]]:
    work = prepare()
    return lambda task: (task, work(task))
