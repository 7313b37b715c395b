"""What scoring gives: figures over all samples, a score for each, and what could not be measured.

Legend: N samples, R resamplings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Resampled = Callable[[NDArray[np.int64]], NDArray[np.float64]]
"""(R, N) how often each sample is drawn -> (R,) values of the figure; NaN where it has none."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A figure over all samples, and what it becomes when they are drawn again."""

    value: float
    resampled: Resampled


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """The scores of N answers.

    `per_sample` holds (N,) floats by name, NaN where a sample does not count; `main` is the one
    that stands for a sample by itself. `groups` (N,) numbers what is drawn together, as the two
    questions on an image of MME; None where every sample stands alone. `unread` are the places
    of answers that the benchmark's rule cannot read.
    """

    main: str
    metrics: Mapping[str, Metric]
    per_sample: Mapping[str, NDArray[np.float64]]
    not_measured: Mapping[str, str] = field(default_factory=dict)
    groups: NDArray[np.int64] | None = None
    unread: tuple[int, ...] = ()


def mean_metric(values_N: ArrayLike) -> Metric:
    """The mean of a score over the samples that have one (others are NaN)."""
    values = np.asarray(values_N, np.float64)
    return ratio_metric(np.nan_to_num(values), ~np.isnan(values))


def ratio_metric(numerator_N: ArrayLike, denominator_N: ArrayLike) -> Metric:
    """A sum over the samples divided by another, such as hits by questions."""
    above, below = np.asarray(numerator_N, np.float64), np.asarray(denominator_N, np.float64)

    def resampled(draws_RN: NDArray[np.int64]) -> NDArray[np.float64]:
        return divide(draws_RN @ above, draws_RN @ below)

    return exact_metric(resampled, len(above))


def exact_metric(resampled: Resampled, num_samples: int) -> Metric:
    """The figure whose own value is that of every sample drawn once."""
    return Metric(float(resampled(np.ones((1, num_samples), np.int64))[0]), resampled)


def divide(above: ArrayLike, below: ArrayLike) -> NDArray[np.float64]:
    """Element by element; NaN where the divisor is 0."""
    a, b = np.asarray(above, np.float64), np.asarray(below, np.float64)
    return np.divide(a, b, out=np.full(a.shape, np.nan), where=b != 0)
