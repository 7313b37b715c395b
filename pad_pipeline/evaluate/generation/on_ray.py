"""Answers by several models at once on Ray, a GPU each where there are GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import ray

from pad_pipeline.engine import ray_session
from pad_pipeline.engine.ray_pool import actor_pool
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.evaluate.questions.question import Question

_MAX_RESTARTS = 3


def answer_on_ray(
    model: str,
    config: GenerationConfig,
    questions: Sequence[Question],
    batches: Sequence[tuple[int, list[int]]],
    max_new_tokens: int,
    *,
    workers: int,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> Iterator[tuple[int, list[str]]]:
    """(number of the batch, its answers) as they come, from `workers` models.

    Joins the Ray cluster at `ray_address` or the one that is there, else starts Ray here. A worker
    that dies is started again and its batch repeated. Raises `UserError` where a worker cannot
    go on.
    """
    with ray_session.shut_down_after():
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        if cluster is None:
            ray_session.start_here(workers, verbose=ray_logs, shared_cores=False)
        has_gpu = config.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        actor: Any = ray.remote(
            num_cpus=1,
            num_gpus=1 if has_gpu else 0,
            max_restarts=_MAX_RESTARTS,
            max_task_retries=_MAX_RESTARTS,
        )(_Worker)
        shared = ray.put(list(questions))
        threads = max(1, (os.cpu_count() or 1) // workers)
        number = min(workers, len(batches))
        actors = [
            actor.remote(model, config, shared, max_new_tokens, threads) for _ in range(number)
        ]
        with actor_pool(actors) as pool:
            answered: Any = pool.map_unordered(lambda a, batch: a.answer.remote(*batch), [*batches])
            yield from answered


class _Worker:
    """One model; it is loaded with the first batch, so that its errors come from there."""

    def __init__(
        self,
        model: str,
        config: GenerationConfig,
        questions: Sequence[Question],
        max_new_tokens: int,
        threads: int,
    ) -> None:
        self._arguments = (model, config)
        self._questions = questions
        self._max_new_tokens = max_new_tokens
        self._threads = threads
        self._answerer: Any = None

    def answer(self, number: int, places: list[int]) -> tuple[int, list[str]]:
        """The answers to one batch."""
        if self._answerer is None:
            import torch

            if not ray.get_gpu_ids():
                torch.set_num_threads(self._threads)
            self._answerer = open_answerer(*self._arguments)
        prepared = [self._answerer.prepare(self._questions[place]) for place in places]
        return number, self._answerer.answer(prepared, self._max_new_tokens)
