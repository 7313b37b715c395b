"""Answers by several models at once on Ray, a GPU each where there are GPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import ray

from pad_pipeline.engine import ray_pool
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.model import open_answerer
from pad_pipeline.evaluate.questions.question import Question


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
    workers = min(workers, len(batches))
    with ray_pool.ray_session_for(workers, ray_address=ray_address, ray_logs=ray_logs):
        has_gpu = config.device != "cpu" and ray.cluster_resources().get("GPU", 0) > 0
        yield from ray_pool.work_on_ray(
            partial(_prepare, model, config, max_new_tokens),
            ((number, [questions[place] for place in places]) for number, places in batches),
            workers=workers,
            gpus=1.0 if has_gpu else 0.0,
        )


def _prepare(
    model: str, config: GenerationConfig, max_new_tokens: int
) -> Callable[[tuple[int, list[Question]]], tuple[int, list[str]]]:
    answerer = open_answerer(model, config)

    def answer(batch: tuple[int, list[Question]]) -> tuple[int, list[str]]:
        number, questions = batch
        prepared = [answerer.prepare(question) for question in questions]
        return number, answerer.answer(prepared, max_new_tokens)

    return answer
