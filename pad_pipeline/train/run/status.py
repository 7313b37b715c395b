"""The status of a training run, from its files alone: any machine can read it."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from pad_pipeline.storage.locks import is_held
from pad_pipeline.train.data.sampler import make_sampler
from pad_pipeline.train.run.folder import Run, config_of, read_run
from pad_pipeline.train.run.metrics_file import read_metrics

_RECENT_STEPS = 50

State = Literal["finished", "running", "interrupted", "not finished"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStatus:
    """Where a run of `train` stands."""

    output: str
    stage: str
    state: State
    """"not finished" where the run lies on another machine or in an object store."""
    steps_done: int
    num_steps: int
    step_s: float | None
    """Median seconds of the last steps, waiting for data included."""
    seconds_left: float | None
    """None where the run has ended or no step is done; without validation and checkpoints."""
    last: Mapping[str, Any]
    """The last line of the run's metrics."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def read_training_status(url: str) -> TrainingStatus:
    """The status of the run at `url`; raises `UserError` where there is none."""
    run = read_run(url)
    lines = read_metrics(url)
    num_steps = _num_steps(run)
    recent = [line["step_s"] for line in lines[-_RECENT_STEPS:] if line.get("step_s")]
    step_s = statistics.median(recent) if recent else None
    steps_done = lines[-1]["step"] + 1 if lines else 0
    return TrainingStatus(
        output=url,
        stage=run.facts["stage"],
        state=_state(run),
        steps_done=steps_done,
        num_steps=num_steps,
        step_s=step_s,
        seconds_left=None if run.finished or not step_s else (num_steps - steps_done) * step_s,
        last=lines[-1] if lines else {},
    )


def _num_steps(run: Run) -> int:
    return make_sampler(config_of(run), np.ones(run.facts["num_samples"], np.int64)).num_steps


def _state(run: Run) -> State:
    if run.finished:
        return "finished"
    is_running = is_held(run.url)
    if is_running is None:
        return "not finished"
    return "running" if is_running else "interrupted"
