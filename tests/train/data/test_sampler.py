"""Which sample is in which step: every one once an epoch, whatever the number of workers."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.train.data.sampler import make_sampler
from pad_pipeline.train.run.config import TrainConfig

CONFIG = TrainConfig(vision="v", llm="l", global_batch=8, epochs=2, num_validation=5)


@given(
    number=st.integers(1, 200),
    batch=st.integers(1, 16),
    workers=st.integers(1, 4),
    sampler=st.sampled_from(["random", "grouped"]),
    seed=st.integers(0, 3),
)
def test_every_sample_is_seen_once_an_epoch_by_one_worker(
    number: int, batch: int, workers: int, sampler, seed: int
) -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 50, number) * rng.choice([-1, 1], number)
    config = replace(CONFIG, global_batch=max(batch, 1), sampler=sampler, seed=seed)
    sampler = make_sampler(config, lengths.astype(np.int64))
    assert len(sampler.validation) == min(5, number // 10)
    for epoch in range(2):
        seen: list[int] = []
        for step in range(epoch * sampler.steps_per_epoch, (epoch + 1) * sampler.steps_per_epoch):
            parts = [
                sampler.worker_batch(step, worker, workers).tolist() for worker in range(workers)
            ]
            assert sorted(chain(*parts)) == sorted(sampler.batch(step).tolist())
            seen += chain(*parts)
        assert sorted(seen + sampler.validation.tolist()) == list(range(number))


def test_orders_differ_by_epoch_and_seed_and_repeat() -> None:
    lengths = np.ones(100, np.int64)
    sampler = make_sampler(CONFIG, lengths)
    again = make_sampler(CONFIG, lengths)
    other = make_sampler(replace(CONFIG, seed=1), lengths)
    assert sampler.batch(3).tolist() == again.batch(3).tolist()
    assert sampler.batch(0).tolist() != sampler.batch(sampler.steps_per_epoch).tolist()
    assert sampler.batch(0).tolist() != other.batch(0).tolist()


@pytest.mark.parametrize(("max_steps", "steps"), [(None, 24), (7, 7), (100, 24)])
def test_the_number_of_steps(max_steps: int | None, steps: int) -> None:
    sampler = make_sampler(replace(CONFIG, max_steps=max_steps), np.ones(100, np.int64))
    assert sampler.num_steps == steps


def test_sources_have_their_weights_in_every_epoch_and_order() -> None:
    sources = np.repeat([0, 1, 2], [50, 30, 20])
    lengths = np.arange(1, 101)
    for order in ("random", "grouped"):
        config = replace(CONFIG, weights=(3.0, 0.0, 1.0), num_validation=0, sampler=order)
        sampler = make_sampler(config, lengths, sources)
        assert sampler.steps_per_epoch == -(-100 // config.global_batch)
        for epoch in range(3):
            seen = sampler.epoch(epoch)
            assert np.bincount(sources[seen], minlength=3).tolist() == [75, 0, 25]
        assert not np.array_equal(sampler.epoch(0), sampler.epoch(1))
    plain = make_sampler(replace(config, weights=()), lengths, sources)
    assert sorted(plain.epoch(0)) == list(range(100))
