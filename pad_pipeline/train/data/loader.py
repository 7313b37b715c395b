"""Samples to micro-batches, read and collated in threads ahead of the training step."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.collate import collate
from pad_pipeline.train.data.examples import Example, ExampleReader
from pad_pipeline.train.data.packing import pack
from pad_pipeline.train.data.problems import DESCRIPTIONS, Problem
from pad_pipeline.train.data.sample_file import TrainingSamples
from pad_pipeline.train.data.sampler import StepSampler
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.run.config import TrainConfig

logger = logging.getLogger(__name__)

_STEPS_AHEAD = 2


class Loader:
    """Makes micro-batches of samples."""

    def __init__(
        self, samples: TrainingSamples, tokenizer: Any, config: TrainConfig, image: VisionInput
    ) -> None:
        """`tokenizer` is a transformers tokenizer."""
        self.samples = samples
        self.config = config
        self.tokenizer = tokenizer
        self.reader = ExampleReader(tokenizer, config, image)
        self._logged: set[Problem] = set()

    def load(self, index: int) -> Example:
        """One sample read, decoded and encoded; `UserError` where its image cannot be used."""
        return self.reader.read(self.samples[index])

    def collate(self, examples: Sequence[Example]) -> Batch:
        """The examples as one batch, packed or padded as the config says."""
        return collate(
            examples,
            self.reader.image,
            self.reader.label_ids,
            packed=self.config.pack_tokens > 0,
        )

    def micro_batches(self, indices: Sequence[int] | NDArray[np.int64]) -> list[Batch]:
        """The samples as batches of at most `micro_batch` samples, or `pack_tokens` tokens."""
        return self._collate_all([self.load(int(index)) for index in indices])

    def steps(
        self, sampler: StepSampler, first_step: int, worker: int, num_workers: int
    ) -> Iterator[tuple[int, list[Batch], float]]:
        """(step, one worker's micro-batches, seconds waited for them) from `first_step` on."""
        readers = ThreadPoolExecutor(self.config.loader_threads)
        collator = ThreadPoolExecutor(1)
        queue: list[tuple[int, Future[list[Batch]]]] = []
        coming = iter(range(first_step, sampler.num_steps))

        def submit() -> None:
            step = next(coming, None)
            if step is not None:
                indices = sampler.worker_batch(step, worker, num_workers)
                examples = [readers.submit(self.load, int(index)) for index in indices]
                queue.append((step, collator.submit(self._collate_loaded, examples)))

        try:
            for _ in range(_STEPS_AHEAD):
                submit()
            while queue:
                step, batches = queue.pop(0)
                submit()
                began = time.perf_counter()
                yield step, batches.result(), time.perf_counter() - began
        finally:
            readers.shutdown(cancel_futures=True)
            collator.shutdown(cancel_futures=True)

    def _collate_loaded(self, examples: Sequence[Future[Example]]) -> list[Batch]:
        return self._collate_all([example.result() for example in examples])

    def _collate_all(self, examples: Sequence[Example]) -> list[Batch]:
        self._log_first_problems(examples)
        lengths = [example.length(self.reader.image) for example in examples]
        return [
            self.collate([examples[index] for index in indices])
            for indices in micro_batch_indices(lengths, self.config)
        ]

    def _log_first_problems(self, examples: Sequence[Example]) -> None:
        """Name the first sample with each kind of problem; the run counts them all."""
        for example in examples:
            if example.problem and example.problem not in self._logged:
                self._logged.add(example.problem)
                reason = f": {example.reason}" if example.reason else ""
                logger.warning(
                    f"sample %s is {DESCRIPTIONS[example.problem]}%s", example.id, reason
                )


def micro_batch_indices(lengths: Sequence[int], config: TrainConfig) -> list[list[int]]:
    """Which of a worker's samples pass through the model together, by their tokens' numbers."""
    if config.pack_tokens:
        return pack(lengths, config.pack_tokens)
    size, number = config.micro_batch, len(lengths)
    return [list(range(start, min(start + size, number))) for start in range(0, number, size)]
