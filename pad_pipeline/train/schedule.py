"""What changes with the optimiser step: the learning rate and the weight β of the patch loss.

transformers' cosine schedule has the same values up to the last step, but it rises again behind it
and comes as a `LambdaLR` with state of its own, where a run here resumes from its step alone.
"""

from __future__ import annotations

import math


def num_warmup_steps(num_steps: int, warmup_fraction: float) -> int:
    """Steps until the learning rate is at its full height: ceil(fraction · steps), as in LLaVA."""
    assert num_steps >= 1, num_steps
    assert 0 <= warmup_fraction <= 1, warmup_fraction
    return math.ceil(num_steps * warmup_fraction)


def learning_rate_factor(step: int, num_steps: int, warmup_fraction: float) -> float:
    """The fraction (0–1) of the full learning rate at `step`, which counts from 0.

    Linear from 0 over the warm-up, then half a cosine that would reach 0 at `num_steps`, where it
    stays. With a warm-up the first step has factor 0, so a run of one step learns nothing.
    """
    assert step >= 0, step
    warmup = num_warmup_steps(num_steps, warmup_fraction)
    if step < warmup:
        return step / warmup
    progress = min((step - warmup) / max(num_steps - warmup, 1), 1.0)
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def beta(step: int, num_steps: int, last: float) -> float:
    """The weight of the patch loss at `step`: last · step / (num_steps − 1) (paper, section 4).

    It is 0 at the first step and exactly `last` at step num_steps − 1. A run of a single step,
    where the formula is 0/0, gets `last`: its step is the last one.
    """
    assert 0 <= step < num_steps, (step, num_steps)
    if step == num_steps - 1:
        return last
    return last * step / (num_steps - 1)
