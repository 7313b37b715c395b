"""Confidence intervals by drawing the samples again, of one evaluation and of two on the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.evaluate.scoring.scores import Metric, Scores

NUM_RESAMPLINGS = 1000
CONFIDENCE = 0.95
_DRAWS_TOGETHER = 4_000_000

Interval = tuple[float, float]


def draws(
    num_samples: int,
    groups: NDArray[np.int64] | None = None,
    *,
    num_resamplings: int = NUM_RESAMPLINGS,
    seed: int = 0,
) -> Iterator[NDArray[np.int64]]:
    """(R, N) numbers of times that each sample is drawn, with replacement, in portions.

    With `groups` (N,) whole groups are drawn. The same arguments give the same draws.
    """
    units = np.arange(num_samples) if groups is None else groups
    num_units = int(units.max(initial=-1)) + 1
    random = np.random.default_rng(seed)
    portion = max(1, _DRAWS_TOGETHER // max(1, num_samples))
    for start in range(0, num_resamplings, portion):
        number = min(portion, num_resamplings - start)
        drawn = random.integers(0, max(1, num_units), (number, num_units))
        counts = np.stack([np.bincount(row, minlength=num_units) for row in drawn])
        yield counts[:, units]


def intervals(scores: Scores, num_samples: int, *, seed: int = 0) -> dict[str, Interval | None]:
    """The interval of each metric, from the 2.5th to the 97.5th percentile; None without one."""
    found = _resample(scores.metrics, num_samples, scores.groups, seed)
    return {name: percentile_interval(values) for name, values in found.items()}


def difference_intervals(
    ours: Scores, theirs: Scores, num_samples: int, *, seed: int = 0
) -> dict[str, Interval | None]:
    """The interval of ours − theirs for each metric that both have, over the same draws of the
    same samples."""
    names = [name for name in ours.metrics if name in theirs.metrics]
    a = _resample({n: ours.metrics[n] for n in names}, num_samples, ours.groups, seed)
    b = _resample({n: theirs.metrics[n] for n in names}, num_samples, ours.groups, seed)
    return {name: percentile_interval(a[name] - b[name]) for name in names}


def percentile_interval(values_R: NDArray[np.float64]) -> Interval | None:
    """The central 95 % of resampled values; None where there are fewer than two."""
    known = values_R[~np.isnan(values_R)]
    if len(known) < 2:
        return None
    tail = (1 - CONFIDENCE) / 2 * 100
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)


def _resample(
    metrics: Mapping[str, Metric],
    num_samples: int,
    groups: NDArray[np.int64] | None,
    seed: int,
) -> dict[str, NDArray[np.float64]]:
    portions: dict[str, list[NDArray[np.float64]]] = {name: [] for name in metrics}
    for draws_RN in draws(num_samples, groups, seed=seed):
        for name, metric in metrics.items():
            portions[name].append(metric.resampled(draws_RN))
    return {name: np.concatenate(parts) for name, parts in portions.items()}
