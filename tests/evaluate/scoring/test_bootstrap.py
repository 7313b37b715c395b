"""Intervals by drawing the samples again."""

from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.evaluate.scoring import bootstrap
from pad_pipeline.evaluate.scoring.scores import Scores, mean_metric, ratio_metric


def scores_of(values: list[float], groups: list[int] | None = None) -> Scores:
    array = np.array(values)
    return Scores(
        main="score",
        metrics={"score": mean_metric(array)},
        per_sample={"score": array},
        groups=None if groups is None else np.array(groups),
    )


def test_the_interval_of_a_share_is_that_of_the_normal_approximation() -> None:
    values = [1.0] * 300 + [0.0] * 100
    found = bootstrap.intervals(scores_of(values), 400)["score"]
    assert found is not None
    half = 1.96 * (0.75 * 0.25 / 400) ** 0.5
    assert found == pytest.approx((0.75 - half, 0.75 + half), abs=0.008)
    assert bootstrap.intervals(scores_of(values), 400)["score"] == found


def test_the_difference_of_paired_runs_is_surer_than_either() -> None:
    random = np.random.default_rng(0)
    ours = random.random(200)
    theirs = ours - 0.01
    a, b = scores_of(ours.tolist()), scores_of(theirs.tolist())
    low, high = bootstrap.difference_intervals(a, b, 200)["score"] or (0, 0)
    assert (low, high) == pytest.approx((0.01, 0.01))


def test_groups_are_drawn_whole() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2])
    for draws_RN in bootstrap.draws(6, groups, num_resamplings=50):
        assert draws_RN.shape == (50, 6)
        assert (draws_RN[:, ::2] == draws_RN[:, 1::2]).all()
        assert (draws_RN.sum(axis=1) == 6).all()
        assert len(np.unique(draws_RN, axis=0)) > 5


def test_samples_without_a_score_do_not_count() -> None:
    metric = mean_metric([1.0, np.nan, 0.0])
    assert metric.value == 0.5
    assert np.isnan(mean_metric([np.nan]).value)
    assert ratio_metric([1, 2], [0, 0]).resampled(np.ones((1, 2), np.int64)).tolist() == [
        pytest.approx(float("nan"), nan_ok=True)
    ]


def test_one_sample_has_an_interval_of_one_point() -> None:
    assert bootstrap.intervals(scores_of([0.5]), 1) == {"score": (0.5, 0.5)}
    assert bootstrap.intervals(scores_of([float("nan")]), 1) == {"score": None}
