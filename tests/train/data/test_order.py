"""The sampler's order is the original's, and a function of seed and epoch alone."""

from __future__ import annotations

import json
import time

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline.train.data.order import (
    group_by_length,
    grouped_order,
    random_order,
    weighted_draw,
)
from tests.golden_data import golden_dir


def original_permutations(seed: int):
    """The original's source of chance: torch's global generator."""
    generator = torch.Generator().manual_seed(seed)
    return lambda num: torch.randperm(num, generator=generator).numpy()


def dealt_out(indices: list[int], lengths: np.ndarray, num_parts: int) -> list[list[int]]:
    """A batch in the parts that the original gives its workers: of like number and length."""
    if len(indices) % num_parts:
        return [indices[part::num_parts] for part in range(num_parts)]
    parts: list[list[int]] = [[] for _ in range(num_parts)]
    totals = [0.0] * num_parts
    for index in indices:
        shortest = min(range(num_parts), key=totals.__getitem__)
        parts[shortest].append(index)
        is_full = len(parts[shortest]) == len(indices) // num_parts
        totals[shortest] += np.inf if is_full else int(lengths[index])
    return parts


def test_order_is_the_originals():
    cases = json.loads((golden_dir("llava_text") / "sampler.json").read_text())["cases"]
    assert cases
    for case in cases:
        assert_order_of(case)


def assert_order_of(case: dict) -> None:
    lengths, workers = np.array(case["lengths"]), case["world_size"]
    size = case["batch_size"] * workers
    order = group_by_length(lengths, size, original_permutations(case["torch_manual_seed"]))
    is_mixed = (lengths > 0).any() and (lengths < 0).any()
    # The original deals out every batch but the merged end, and sees negative lengths as they are.
    dealt = np.abs(lengths) if is_mixed else lengths
    end = len(order)
    if is_mixed:
        end = sum((int(n) - 1) // size * size for n in ((lengths > 0).sum(), (lengths < 0).sum()))
    found = []
    for start in range(0, end, size):
        batch = order[start : min(start + size, end)].tolist()
        found += [index for part in dealt_out(batch, dealt, workers) for index in part]
    assert found + order[end:].tolist() == case["order"], case["name"]


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(-300, 300), max_size=120),
    size=st.integers(1, 17),
    seed=st.integers(0, 2**32),
)
def test_every_sample_once_and_batches_of_one_modality(lengths, size, seed):
    array = np.array(lengths, dtype=np.int64)
    order = grouped_order(array, size, seed, 0)
    assert order.dtype == np.int64
    assert sorted(order.tolist()) == list(range(len(lengths)))
    num_images, num_texts = int((array > 0).sum()), int((array <= 0).sum())
    if num_images and num_texts:
        pure = (num_images - 1) // size + (num_texts - 1) // size
        for batch in order[: pure * size].reshape(-1, size):
            assert len({length > 0 for length in array[batch]}) == 1
            assert np.abs(array[batch]).tolist() == sorted(np.abs(array[batch]), reverse=True)
        assert order[pure * size :].tolist() == sorted(order[pure * size :])


def test_order_follows_seed_and_epoch():
    lengths = np.arange(1, 400) * np.where(np.arange(399) % 3, 1, -1)
    for make in (
        lambda seed, epoch: random_order(399, seed, epoch),
        lambda seed, epoch: grouped_order(lengths, 8, seed, epoch),
    ):
        first = make(3, 0)
        assert np.array_equal(first, make(3, 0))
        assert not np.array_equal(first, make(3, 1))
        assert not np.array_equal(first, make(4, 0))
        assert sorted(first.tolist()) == list(range(399))


def test_orders_do_not_change_between_versions():
    """A run that goes on with a later NumPy must see the same batches."""
    assert random_order(10, 0, 0).tolist() == [3, 2, 1, 8, 6, 0, 7, 4, 5, 9]
    lengths = np.array([5, -3, 8, 2, -9, 4, 7, -1, 6, 3])
    assert grouped_order(lengths, 2, 7, 1).tolist() == [6, 3, 2, 5, 8, 0, 4, 1, 7, 9]


def test_equal_lengths_keep_the_order_of_the_shuffle():
    lengths = np.random.default_rng(0).integers(1, 4, 1000)
    expected = [
        index
        for start in range(0, 1000, 300)
        for index in sorted(range(start, min(start + 300, 1000)), key=lambda i: -lengths[i])
    ]
    assert group_by_length(lengths, 300, np.arange).tolist() == expected


def test_shuffle_is_uniform():
    counts = np.zeros((4, 4))
    for seed in range(3000):
        counts[np.arange(4), random_order(4, seed, 0)] += 1
    assert np.abs(counts / 3000 - 0.25).max() < 0.04


def test_empty_and_single():
    assert random_order(0, 0, 0).tolist() == []
    assert grouped_order(np.array([], dtype=np.int64), 4, 0, 0).tolist() == []
    assert grouped_order(np.array([7]), 4, 0, 0).tolist() == [0]


def test_a_full_epoch_is_ordered_quickly():
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 600, 665_298) * np.where(rng.random(665_298) < 0.06, -1, 1)
    began = time.process_time()
    grouped_order(lengths, 128, 0, 0)
    assert time.process_time() - began < 2


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=4),
    st.integers(0, 100),
    st.integers(0, 5),
    st.data(),
)
def test_every_set_has_its_part_of_every_epoch(sizes, num, seed, data) -> None:
    weights = data.draw(
        st.lists(st.floats(0.1, 3.0), min_size=len(sizes), max_size=len(sizes)), label="weights"
    )
    counts = np.zeros(len(sizes), int)
    seen = [np.zeros(size, int) for size in sizes]
    for epoch in range(4):
        drawn = weighted_draw(sizes, weights, num, seed, epoch)
        again = weighted_draw(sizes, weights, num, seed, epoch)
        assert sum(map(len, drawn)) == num
        for place, (one, other) in enumerate(zip(drawn, again, strict=True)):
            assert np.array_equal(one, other)
            assert abs(len(one) - num * weights[place] / sum(weights)) <= 1
            np.add.at(seen[place], one, 1)
            counts[place] += len(one)
    for size, number, times in zip(sizes, counts, seen, strict=True):
        # whole passes: no sample is seen twice before all are seen once
        assert set(times.tolist()) <= {number // size, -(-number // size)}
