"""Shards of conversations by a pool of workers on Ray, a GPU each where there are GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import ray

from pad_pipeline.cognition.config import CognitionConfig
from pad_pipeline.cognition.counts import Counts
from pad_pipeline.cognition.entries import Entry
from pad_pipeline.cognition.run import Shard, build_worker
from pad_pipeline.engine import ray_session
from pad_pipeline.engine.ray_pool import actor_pool

_MAX_RESTARTS = 3
_PER_WORKER = 2
"""Shards that each worker has in hand or waiting, so that memory does not grow with the source."""


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
    with ray_session.shut_down_after():
        pool = config.pool
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        if cluster is None:
            slots = round((pool.max_workers or 1) * pool.cpus + 0.5)
            ray_session.start_here(slots, verbose=ray_logs, shared_cores=False)
        num_gpus = ray.cluster_resources().get("GPU", 0) if config.device != "cpu" else 0
        gpus = (1.0 if pool.gpus is None else pool.gpus) if num_gpus else 0.0
        workers = pool.max_workers or max(pool.min_workers, int(num_gpus / gpus) if gpus else 1)
        actor: Any = ray.remote(
            num_cpus=pool.cpus,
            num_gpus=gpus,
            max_restarts=_MAX_RESTARTS,
            max_task_retries=_MAX_RESTARTS,
        )(_ShardWorker)
        threads = max(1, (os.cpu_count() or 1) // workers)
        in_hand = 0
        with actor_pool([actor.remote(config, gpus, threads) for _ in range(workers)]) as actors:
            for number, entries in shards:
                actors.submit(lambda each, shard: each.work.remote(*shard), (number, entries))
                in_hand += 1
                if in_hand == _PER_WORKER * workers:
                    yield actors.get_next_unordered()  # pyright: ignore[reportReturnType]
                    in_hand -= 1
            while actors.has_next():
                yield actors.get_next_unordered()  # pyright: ignore[reportReturnType]


class _ShardWorker:
    """One VQ model; it is loaded with the first shard, so that its errors come from there."""

    def __init__(self, config: CognitionConfig, gpus: float, threads: int) -> None:
        self._config, self._gpus, self._threads = config, gpus, threads
        self._worker: Any = None

    def work(self, number: int, entries: list[Entry]) -> tuple[int, bytes, Counts]:
        """The lines of a shard."""
        if self._worker is None:
            import torch

            if not self._gpus:
                torch.set_num_threads(self._config.threads or self._threads)
            self._worker = build_worker(self._config, num_gpus=self._gpus)
        return number, *self._worker(entries)
