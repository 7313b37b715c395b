"""The order in which an epoch visits its samples: random, or grouped by modality and length.

Both orders are functions of their arguments alone: the same on every machine, whatever the number
of workers. Random numbers come from PCG64's raw output, which NumPy keeps the same in all versions
(it does not promise that for `Generator.permutation`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Permute = Callable[[int], NDArray[np.int64]]
"""Gives a new permutation of the numbers below its argument at every call."""


def random_order(num: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """(num,) every number below `num` once, shuffled; `seed` and `epoch` are not negative."""
    return _permutations(seed, epoch)(num)


def grouped_order(
    lengths: NDArray[np.integer], batch_size: int, seed: int, epoch: int
) -> NDArray[np.int64]:
    """(N,) every index of `lengths` once, in batches of one modality sorted by length.

    `lengths` (N,) are words, negative for text without an image (0 counts as such); `batch_size`
    is the batch of all workers together. Consecutive runs of `batch_size` indices are the batches.
    See `group_by_length`.
    """
    return group_by_length(lengths, batch_size, _permutations(seed, epoch))


def weighted_draw(
    sizes: Sequence[int], weights: Sequence[float], num: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """For each set, which of its samples an epoch of `num` samples sees.

    Set i gives weights[i] / sum(weights) of them, by the largest remainders. It is read in
    shuffled passes that go on from epoch to epoch: one with more samples than its part is seen in
    parts, one with fewer is repeated.
    """
    parts = num * np.asarray(weights, float) / sum(weights)
    counts = np.floor(parts).astype(int)
    counts[np.argsort(counts - parts, kind="stable")[: num - counts.sum()]] += 1
    drawn = []
    for place, (size, count) in enumerate(zip(sizes, counts.tolist(), strict=True)):
        first, end = epoch * count, (epoch + 1) * count
        passes = [
            _permutations(seed, place, number)(size)
            for number in range(first // max(size, 1), -(-end // max(size, 1)))
            if count
        ]
        start = first % max(size, 1)
        both = np.concatenate(passes) if passes else np.zeros(0, np.int64)
        drawn.append(both[start : start + count])
    return drawn


def group_by_length(
    lengths: NDArray[np.integer], batch_size: int, permute: Permute
) -> NDArray[np.int64]:
    """LLaVA's order by modality and length, with the permutations that `permute` gives.

    Images and texts are shuffled apart and cut into batches, each batch is sorted from long to
    short, and the batches of both are shuffled. The last batch of either, complete or not, goes to
    the end of the epoch, the two merged and sorted by index: those batches alone are mixed.
    With one modality alone the batches stay in the order of the first shuffle. (Texts alone are
    sorted from short to long: the original compares their negative lengths.)
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    images, texts = np.flatnonzero(lengths > 0), np.flatnonzero(lengths <= 0)
    if not len(images) or not len(texts):
        return _sorted_batches(lengths, batch_size, permute)
    batches, last = [], []
    for indices in (images, texts):
        order = indices[_sorted_batches(np.abs(lengths[indices]), batch_size, permute)]
        whole = (len(order) - 1) // batch_size * batch_size
        batches.append(order[:whole].reshape(-1, batch_size))
        last.append(order[whole:])
    together = np.concatenate(batches)
    shuffled = together[permute(len(together))]
    return np.concatenate([shuffled.ravel(), np.sort(np.concatenate(last))])


def _sorted_batches(
    lengths: NDArray[np.int64], batch_size: int, permute: Permute
) -> NDArray[np.int64]:
    order = permute(len(lengths))
    whole = len(order) // batch_size * batch_size
    parts = (order[:whole].reshape(-1, batch_size), order[None, whole:])
    # Stable, as Python's sort is: equal lengths keep the order of the shuffle.
    ranks = (np.argsort(-lengths[part], axis=1, kind="stable") for part in parts)
    pairs = zip(parts, ranks, strict=True)
    return np.concatenate([np.take_along_axis(part, rank, axis=1).ravel() for part, rank in pairs])


def _permutations(*seeds: int) -> Permute:
    bits = np.random.PCG64(np.random.SeedSequence(seeds))

    def permute(num: int) -> NDArray[np.int64]:
        return np.argsort(bits.random_raw(num), kind="stable").astype(np.int64)

    return permute
