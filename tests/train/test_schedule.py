"""The learning rate's factor and β against recorded runs, and their shape at any length."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.train.schedule import beta, learning_rate_factor, num_warmup_steps
from tests.golden_data import golden_dir


def test_golden_schedules():
    golden = json.loads((golden_dir("analysis") / "schedules.json").read_text())
    share, last = golden["warmup_ratio"], golden["beta_max"]
    assert golden["cases"]
    for case in golden["cases"]:
        steps = case["steps"]
        assert num_warmup_steps(steps, share) == case["warmup_steps"]
        for step, rate, weight in zip(case["at_step"], case["lr"], case["beta"], strict=True):
            found = case["learning_rate"] * learning_rate_factor(step, steps, share)
            assert found == pytest.approx(rate, rel=1e-9, abs=1e-18)
            if weight is None:
                assert steps == 1
            else:
                assert beta(step, steps, last) == pytest.approx(weight, rel=1e-12, abs=0)


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("num_steps", [1, 2, 53, 400])
def test_equals_the_schedule_of_transformers_bit_by_bit(num_steps: int, fraction: float):
    import torch
    from transformers import get_cosine_schedule_with_warmup

    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    warmup = num_warmup_steps(num_steps, fraction)
    [theirs] = get_cosine_schedule_with_warmup(optimizer, warmup, num_steps).lr_lambdas
    for step in range(num_steps):
        assert learning_rate_factor(step, num_steps, fraction) == theirs(step)


@given(st.integers(1, 400), st.floats(0, 1))
def test_the_rate_rises_then_falls(num_steps: int, fraction: float):
    factors = [learning_rate_factor(step, num_steps, fraction) for step in range(num_steps + 3)]
    warmup = num_warmup_steps(num_steps, fraction)
    assert all(0 <= factor <= 1 for factor in factors)
    assert factors[: warmup + 1] == sorted(factors[: warmup + 1])
    assert factors[warmup:] == sorted(factors[warmup:], reverse=True)
    assert factors[0] == (0 if warmup else 1)


def test_the_rate_stays_at_zero_after_the_last_step():
    assert learning_rate_factor(10, 10, 0.03) == 0
    assert learning_rate_factor(25, 10, 0.03) == 0
    assert learning_rate_factor(0, 10, 0.0) == 1


@given(st.integers(2, 10_000), st.floats(0, 100))
def test_beta_runs_from_zero_to_exactly_its_last_value(num_steps: int, last: float):
    assert beta(0, num_steps, last) == 0
    assert beta(num_steps - 1, num_steps, last) == last
    middle = beta(num_steps // 2, num_steps, last)
    assert math.isclose(middle, last * (num_steps // 2) / (num_steps - 1), abs_tol=1e-300)


def test_beta_of_a_single_step_is_the_last_value():
    assert beta(0, 1, 5.0) == 5.0


@pytest.mark.parametrize(("step", "num_steps"), [(-1, 5), (5, 5), (0, 0)])
def test_a_step_outside_the_run_is_a_bug(step: int, num_steps: int):
    with pytest.raises(AssertionError):
        beta(step, num_steps, 5.0)
