"""Shards of conversations by a pool of workers on Ray, a GPU each where there are GPUs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import ray

from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.cognition.counts import Counts
from pad_pipeline.cognition.run import Shard, build_worker
from pad_pipeline.engine import ray_pool


def work_on_ray(
    config: CognitionConfig,
    shards: Iterator[Shard],
    *,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> Iterator[tuple[int, bytes, Counts]]:
    """(number, lines, counts) of each shard as they come.

    Joins the Ray cluster at `ray_address` or the one that is there, else starts Ray here. The pool
    has as many workers as `config.pool` says, by default one for each GPU. A worker that dies is
    started again and its shard repeated. Raises `UserError` where a worker cannot go on.
    """
    pool = config.pool
    slots = math.ceil((pool.max_workers or 1) * pool.cpus)
    with ray_pool.ray_session_for(slots, ray_address=ray_address, ray_logs=ray_logs):
        num_gpus = ray.cluster_resources().get("GPU", 0) if config.device != "cpu" else 0
        gpus = (1.0 if pool.gpus is None else pool.gpus) if num_gpus else 0.0
        yield from ray_pool.work_on_ray(
            partial(_prepare, config, gpus),
            shards,
            workers=pool.max_workers or max(pool.min_workers, int(num_gpus / gpus) if gpus else 1),
            cpus=pool.cpus,
            gpus=gpus,
            threads=config.threads,
        )


def _prepare(config: CognitionConfig, gpus: float) -> Callable[[Shard], tuple[int, bytes, Counts]]:
    worker = build_worker(config, num_gpus=gpus)
    return lambda shard: (shard[0], *worker(shard[1]))
