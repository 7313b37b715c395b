"""The training loop that the three models share: warm-up and cosine, averaged weights, resuming."""

from __future__ import annotations

import ctypes
import json
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pad_pipeline.storage.atomic import replacing

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How long and how fast to learn."""

    steps: int
    learning_rate: float
    warm_up_steps: int = 200
    constant_until: float = 0.4
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.98)
    max_gradient_norm: float = 1.0
    averaging: float = 0.998
    checkpoint_every: int = 200


def rate_factor(schedule: Schedule, step: int) -> float:
    """What the learning rate is multiplied by: warm-up, constant, then a cosine to a hundredth."""
    warm = min(1.0, (step + 1) / max(schedule.warm_up_steps, 1))
    start = schedule.constant_until * schedule.steps
    if step < start:
        return warm
    share = (step - start) / max(schedule.steps - start, 1)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))


def fit(
    model: nn.Module,
    losses_of_step: Callable[[int], dict[str, Tensor]],
    schedule: Schedule,
    output: Path,
    *,
    slower: dict[str, float] | None = None,
    on_checkpoint: Callable[[nn.Module, int], None] | None = None,
    max_minutes: float | None = None,
) -> nn.Module:
    """Train `model`, and return it with the averaged weights in place of the last ones.

    `losses_of_step(step)` gives named losses of which the sum is minimised; `slower` maps prefixes
    of parameter names to factors of their learning rate. A run in the same `output` continues
    where its last checkpoint stands. `on_checkpoint(model, step)` sees the averaged weights.
    With `max_minutes` the run stops early, at whatever the schedule has reached.
    """
    output.mkdir(parents=True, exist_ok=True)
    optimizer = torch.optim.AdamW(
        _groups(model, schedule, slower or {}),
        lr=schedule.learning_rate,
        betas=schedule.betas,
        foreach=True,
    )
    rates = [group["lr"] for group in optimizer.param_groups]
    averaged = {name: value.detach().clone() for name, value in model.state_dict().items()}
    state_file = output / "training_state.pt"
    first = 0
    if state_file.is_file():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        averaged, first = state["averaged"], state["step"]
        logger.info("continuing at step %d", first)
    began, recent = time.monotonic(), {}
    model.train()
    for step in range(first, schedule.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * rate_factor(schedule, step)
        losses = losses_of_step(step)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), schedule.max_gradient_norm)
        optimizer.step()
        _average(averaged, model, min(schedule.averaging, (step + 1) / (step + 10)))
        for name, loss in {**losses, "total": total}.items():
            recent.setdefault(name, []).append(float(loss.detach()))
        done = step + 1
        if done % 50 == 0 or done == schedule.steps:
            _report(output, done, recent, time.monotonic() - began)
            recent = {}
        out_of_time = max_minutes is not None and time.monotonic() - began > 60 * max_minutes
        if done % schedule.checkpoint_every == 0 or done == schedule.steps or out_of_time:
            _save(state_file, model, optimizer, averaged, done)
            if on_checkpoint is not None:
                _with_weights(model, averaged, lambda done=done: on_checkpoint(model, done))
        if out_of_time:
            break
    model.load_state_dict(averaged)
    return model.eval()


def keep_freed_memory() -> None:
    """Tell glibc not to hand freed memory back: activations are as large every step.

    Without this a third of a step on the CPU is spent on page faults. A no-op elsewhere.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    for option, value in ((-4, 0), (-1, 2**31 - 1), (-2, 1 << 27)):  # mmap_max, trim, top_pad
        mallopt(option, value)


def _groups(model: nn.Module, schedule: Schedule, slower: dict[str, float]) -> list[dict]:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        factor = next((f for prefix, f in slower.items() if name.startswith(prefix)), 1.0)
        decay = schedule.weight_decay if parameter.ndim > 1 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    return [
        {"params": parameters, "lr": schedule.learning_rate * factor, "weight_decay": decay}
        for (factor, decay), parameters in groups.items()
    ]


@torch.no_grad()
def _average(averaged: dict[str, Tensor], model: nn.Module, decay: float) -> None:
    floats, others = [], []
    for name, value in model.state_dict().items():
        (floats if value.is_floating_point() else others).append((averaged[name], value))
    torch._foreach_lerp_([a for a, _ in floats], [v for _, v in floats], 1 - decay)
    for mean, value in others:
        mean.copy_(value)


def _with_weights(model: nn.Module, weights: dict[str, Tensor], act: Callable[[], None]) -> None:
    own = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(weights)
    model.eval()
    act()
    model.load_state_dict(own)
    model.train()


def _save(path: Path, model: nn.Module, optimizer, averaged: dict, step: int) -> None:
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "averaged": averaged,
        "step": step,
    }
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        torch.save(state, file)


def _report(output: Path, step: int, recent: dict[str, list[float]], seconds: float) -> None:
    means = {name: round(sum(values) / len(values), 4) for name, values in recent.items()}
    line = {"step": step, "minutes": round(seconds / 60, 2), **means}
    with (output / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")
    logger.info("%s", line)
