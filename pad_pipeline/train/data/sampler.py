"""Which samples make up which step: a function of seed, epoch and step, not of the workers."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.train.data.order import grouped_order, random_order, weighted_draw
from pad_pipeline.train.run.config import TrainConfig


@dataclass(frozen=True)
class StepSampler:
    """The batches of all steps of a run. `train` and `validation` are disjoint sample numbers."""

    config: TrainConfig
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    lengths: NDArray[np.int64] = field(repr=False)
    """(number of all samples,) words, negative without an image."""
    sources: NDArray[np.int64] = field(repr=False)
    """(number of all samples,) which source each is from."""

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of an epoch, which has as many samples as there are.

        The last batch may be smaller. Without weights every sample is seen once.
        """
        return -(-len(self.train) // self.config.global_batch)

    @property
    def num_steps(self) -> int:
        """Optimiser steps of the whole run."""
        steps = self.steps_per_epoch * self.config.epochs
        return min(steps, self.config.max_steps or steps)

    def batch(self, step: int) -> NDArray[np.int64]:
        """The samples of a step (from 0) over all workers."""
        epoch, position = divmod(step, self.steps_per_epoch)
        size = self.config.global_batch
        return self.epoch(epoch)[position * size : (position + 1) * size]

    def worker_batch(self, step: int, worker: int, num_workers: int) -> NDArray[np.int64]:
        """One worker's part of a step; the parts of all workers are the step's batch."""
        return self.batch(step)[worker::num_workers]

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The samples of an epoch (from 0) in their order."""
        return _order(_Key(self), epoch)


class _Key:
    """Lets a sampler, whose arrays cannot be hashed, be the key of a cache."""

    def __init__(self, sampler: StepSampler) -> None:
        self.sampler = sampler

    def __hash__(self) -> int:
        return id(self.sampler)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.sampler is self.sampler


@lru_cache(maxsize=2)
def _order(key: _Key, epoch: int) -> NDArray[np.int64]:
    sampler = key.sampler
    config = sampler.config
    seen = sampler.train
    if config.weights:
        seen = _weighted(sampler, epoch)
    if config.sampler == "random":
        return seen[random_order(len(seen), config.seed, epoch)]
    return seen[grouped_order(sampler.lengths[seen], config.global_batch, config.seed, epoch)]


def _weighted(sampler: StepSampler, epoch: int) -> NDArray[np.int64]:
    """The samples of an epoch, each source with its weight."""
    config, sources = sampler.config, sampler.sources[sampler.train]
    sets = [sampler.train[sources == place] for place in range(len(config.weights))]
    sizes = [len(each) for each in sets]
    drawn = weighted_draw(sizes, config.weights, len(sampler.train), config.seed, epoch)
    return np.concatenate([each[index] for each, index in zip(sets, drawn, strict=True)])


def make_sampler(
    config: TrainConfig, lengths: NDArray[np.int64], sources: NDArray[np.int64] | None = None
) -> StepSampler:
    """The batches over samples of these lengths; at most a tenth of them is held out.

    `sources` says which source each is from; all from one without it.
    """
    number = len(lengths)
    held_out = min(config.num_validation, number // 10)
    order = np.random.default_rng([config.seed, 1]).permutation(number)
    validation, train = np.sort(order[:held_out]), np.sort(order[held_out:])
    sources = np.zeros(number, np.int64) if sources is None else sources
    return StepSampler(config, train, validation, lengths, sources)
