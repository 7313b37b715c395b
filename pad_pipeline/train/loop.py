"""A whole run on the workers that are there: load, resume from the last checkpoint, step, save.

Needs no Ray: `train(run, config, OneWorker())` trains in this process.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.train.data.problems import Problem, metrics_of
from pad_pipeline.train.distributed import Workers
from pad_pipeline.train.run.checkpoint import Checkpoints, random_state, restore_random_state
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import Run, write_run
from pad_pipeline.train.run.loggers import MetricsLogger, open_loggers
from pad_pipeline.train.run.metrics_file import MetricsFile
from pad_pipeline.train.run.models import in_whole_weights
from pad_pipeline.train.run.results import write_results
from pad_pipeline.train.sharding import (
    gather_state,
    gather_trained,
    gather_weights,
    is_sharded,
    scatter_state,
    scatter_trained,
)
from pad_pipeline.train.step import StepMetrics, training_step
from pad_pipeline.train.trainer import Trainer, load_trainer
from pad_pipeline.train.vlsa.config import VlsaConfig
from pad_pipeline.train.vlsa.model import VlsaModel
from pad_pipeline.train.vlsa.pictures import write_pictures

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, dict[str, float]], None]


def train(
    run: Run, config: TrainConfig, workers: Workers, on_step: OnStep | None = None
) -> dict[str, float]:
    """Train `run` to its end from where it stands; returns the last step's metrics.

    Does nothing where the run has finished, as when a worker died while it shut down. Raises
    `UserError` where models or data cannot be used or a loss is not finite; what was saved stays.
    """
    if run.finished:
        return dict(run.facts["last"])
    trainer = load_trainer(run, config, workers)
    checkpoints = Checkpoints(run.url)
    state = checkpoints.load_last()
    first, best, problems = 0, _Best(), Counter[str]()
    if state is not None:
        first, best = state["step"], _Best(**state["best"])
        problems.update(state.get("problems", {}))
        _restore(trainer, state)
        if workers.rank == 0:
            logger.info("resuming after step %d of %d", first, trainer.sampler.num_steps)
    metrics, loggers = None, []
    if workers.rank == 0:
        metrics = MetricsFile(run.url, first)
        loggers = open_loggers(config.loggers, run.url, first, run.facts["config"])
    values: dict[str, float] = {}
    try:
        values = _steps(trainer, checkpoints, first, best, problems, metrics, loggers, on_step)
    finally:
        for each in (*([metrics] if metrics else []), *loggers):
            each.close()
    pictures: dict[str, float | None] = {}
    with trainer.with_averages():
        weights = gather_weights(trainer.model) if is_sharded(trainer.model) else None
        if workers.rank == 0:
            model = in_whole_weights(run, config, trainer.model, weights)
            write_results(run, model, trainer.loader.tokenizer, weights)
            if isinstance(config, VlsaConfig) and isinstance(model, VlsaModel):
                kept, number = trainer.sampler.validation, config.num_pictures
                psnr = write_pictures(run.url, model, trainer.loader, kept, number)
                pictures = {"reconstruction_psnr": psnr}
    if workers.rank == 0:
        facts = {
            **run.facts,
            "state": "finished",
            "last": values,
            "best_step": best.step,
            "problems": dict(problems),
            **pictures,
        }
        write_run(dataclasses.replace(run, facts=facts))
        storage.remove(run.samples_url)
    return values


def _steps(
    trainer: Trainer,
    checkpoints: Checkpoints,
    first: int,
    best: _Best,
    problems: Counter[str],
    metrics: MetricsFile | None,
    loggers: list[MetricsLogger],
    on_step: OnStep | None,
) -> dict[str, float]:
    """Take the steps from `first` on; `best` and `problems` are kept up to date."""
    config, workers, num_steps = trainer.config, trainer.workers, trainer.sampler.num_steps
    values: dict[str, float] = {}
    trainer.model.train()
    for step, batches, waited_s in trainer.loader.steps(
        trainer.sampler, first, workers.rank, workers.size
    ):
        began = time.perf_counter()
        rate = trainer.set_learning_rate(step)
        weight = trainer.beta(step)
        step_metrics = training_step(
            trainer.model,
            trainer.optimizer,
            trainer.pad_micro_batches(batches),
            beta=weight,
            config=config,
            workers=workers,
            step=step,
        )
        values = _values(step_metrics, config, rate, weight, waited_s, time.perf_counter() - began)
        if trainer.averaged is not None:
            trainer.averaged.update(step)
        counts = workers.sum([sum(batch.problems[p] for batch in batches) for p in Problem])
        values |= metrics_of(counts)
        if step < trainer.sampler.steps_per_epoch:  # a sample counts once
            found = zip(Problem, counts, strict=True)
            problems.update({str(kind): round(number) for kind, number in found if number})
        done = step + 1
        improved = False
        if done % config.validate_every == 0 or done == num_steps:
            values |= trainer.validate()
            improved = best.update(done, values.get("validation/loss", math.inf))
        if metrics is not None:
            for each in (metrics, *loggers):
                each.write(step, values)
        if improved or done % config.checkpoint_every == 0 or done == num_steps:
            state = _state(trainer, best, problems)
            # The metrics first: a resumed run drops those behind its checkpoint, and cannot make up
            # for those before it.
            if metrics is not None:
                metrics.flush()
            if workers.rank == 0:
                checkpoints.save(done, state, best_step=best.step)
        if on_step is not None:
            on_step(done, num_steps, values)
    return values


@dataclass
class _Best:
    """The checkpoint with the lowest loss on the held-out samples."""

    step: int | None = None
    loss: float = math.inf

    def update(self, step: int, loss: float) -> bool:
        """Take `step` if it is the best so far; whether it is."""
        if loss >= self.loss:
            return False
        self.step, self.loss = step, loss
        return True


def _state(trainer: Trainer, best: _Best, problems: Mapping[str, int]) -> dict[str, Any]:
    """What a checkpoint holds; all workers must call it."""
    if is_sharded(trainer.model):
        trained = gather_state(trainer.model, trainer.optimizer)
    else:
        trained = {
            "weights": _trained_weights(trainer),
            "optimizer": trainer.optimizer.state_dict(),
        }
    if trainer.averaged is not None:
        with trainer.averaged.in_place():
            trained["averaged"] = _trained_weights(trainer)
    return {
        **trained,
        "sharded": is_sharded(trainer.model),
        "random": random_state(),
        "best": dataclasses.asdict(best),
        "problems": dict(problems),
    }


def _trained_weights(trainer: Trainer) -> dict[str, Any]:
    """Copies of the trained weights on the CPU, whole; all workers must call it."""
    if is_sharded(trainer.model):
        return gather_trained(trainer.model)
    state = trainer.model.trained_state()
    return {name: tensor.to("cpu", copy=True) for name, tensor in state.items()}


def _restore(trainer: Trainer, state: dict[str, Any]) -> None:
    if state["sharded"] != is_sharded(trainer.model):
        raise UserError(
            "stage 2 cannot resume with another layout: a run that began with one worker needs ",
            Setting("workers", 1),
            ", one that began with several needs several",
        )
    if is_sharded(trainer.model):
        scatter_state(trainer.model, trainer.optimizer, state)
    else:
        trainer.model.load_trained_state(state["weights"], source="the checkpoint")
        trainer.optimizer.load_state_dict(state["optimizer"])
    if trainer.averaged is not None:
        with trainer.averaged.in_place():
            if is_sharded(trainer.model):
                scatter_trained(trainer.model, state["averaged"])
            else:
                trainer.model.load_trained_state(state["averaged"], source="the checkpoint")
    restore_random_state(state["random"])


def _values(
    metrics: StepMetrics,
    config: TrainConfig,
    rate: float,
    weight: float,
    waited_s: float,
    step_s: float,
) -> dict[str, float]:
    loss = metrics.caption_loss + weight * metrics.patch_loss
    reconstruction: dict[str, float] = {}
    if metrics.reconstruction_loss is not None:
        reconstruction = {"reconstruction_loss": metrics.reconstruction_loss}
        loss += config.image_loss_weight * metrics.reconstruction_loss
    values = {
        "caption_loss": metrics.caption_loss,
        "patch_loss": metrics.patch_loss,
        **reconstruction,
        "loss": loss,
        "beta": weight,
        "cosine": metrics.cosine,
        "regions_per_image": metrics.num_regions / max(metrics.num_images, 1),
        "dropped_share": metrics.num_dropped / max(metrics.num_regions + metrics.num_dropped, 1),
        "learning_rate": rate,
        "gradient_norm": metrics.gradient_norm,
        "tokens_per_s": metrics.num_tokens / max(step_s + waited_s, 1e-9),
        "waiting_share": waited_s / max(step_s + waited_s, 1e-9),
        "step_s": step_s + waited_s,
        "memory_gb": _memory_gb(),
    }
    return values


def _memory_gb() -> float:
    """The most memory used so far: of the GPU, or of this process without one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 1e9
    try:
        text = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    line = next((line for line in text.splitlines() if line.startswith("VmHWM")), "VmHWM: 0")
    return int(line.split()[1]) * 1024 / 1e9
