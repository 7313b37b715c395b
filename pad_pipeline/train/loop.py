"""A whole run on the workers that are there: load, take up the last checkpoint, step, save.

Needs no Ray: `train(run, config, OneWorker())` trains in this process.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures.alignment import AlignmentMeter
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.loader import Loader
from pad_pipeline.train.data.samples import Samples, local_copy
from pad_pipeline.train.data.steps import Plan, make_plan
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.patch_loss import COVERED
from pad_pipeline.train.run.checkpoint import Checkpoints, random_state, restore_random_state
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.files import Run, write_run
from pad_pipeline.train.run.logs import MetricsFile, Sink, open_sinks
from pad_pipeline.train.run.models import image_format, load_run_model
from pad_pipeline.train.run.results import write_results
from pad_pipeline.train.schedule import beta, learning_rate_factor
from pad_pipeline.train.sharding import (
    gather_state,
    gather_weights,
    is_sharded,
    scatter_state,
    shard,
)
from pad_pipeline.train.step import StepFigures, Workers, evaluation_step, training_step

logger = logging.getLogger(__name__)

OnStep = Callable[[int, int, dict[str, float]], None]


@dataclass(frozen=True)
class Trainer:
    """Everything that a run's steps need, loaded."""

    config: TrainConfig
    model: VisionLanguageModel
    optimizer: torch.optim.Optimizer
    loader: Loader
    plan: Plan
    workers: Workers

    def set_learning_rate(self, step: int) -> float:
        """Set every group's learning rate for `step`; returns the first group's."""
        factor = learning_rate_factor(step, self.plan.num_steps, self.config.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def beta(self, step: int) -> float:
        """The weight of the patch loss at `step`."""
        return beta(step, self.plan.num_steps, self.config.patch_weight)

    def fill(self, batches: list[Batch]) -> list[Batch]:
        """As many micro-batches on every worker: sharded passes run in step with each other.

        What is added has no target and no region, so it changes no figure.
        """
        if not is_sharded(self.model):
            return batches
        missing = self.workers.most(len(batches)) - len(batches)
        if not missing:
            return batches
        empty = self.loader.micro_batches(self.plan.train[:1])[0].without_targets()
        return [*batches, *[empty] * missing]

    def validate(self) -> dict[str, float]:
        """Figures over the held-out samples; {} where there are none."""
        if not len(self.plan.validation):
            return {}
        batches = self.fill(
            self.loader.micro_batches(self.plan.validation[self.workers.rank :: self.workers.size])
        )
        self.model.eval()
        figures = evaluation_step(self.model, batches, self.config, self.workers)
        align = self._align(batches)
        self.model.train()
        loss = figures.caption_loss + self.config.patch_weight * figures.patch_loss
        values = {
            "validation/caption_loss": figures.caption_loss,
            "validation/loss": loss,
        }
        if figures.num_regions:
            values |= {
                "validation/patch_loss": figures.patch_loss,
                "validation/cosine": figures.cosine,
                "validation/align": align,
            }
        return values

    @torch.no_grad()
    def _align(self, batches: list[Batch]) -> float:
        meter = AlignmentMeter()
        for batch in batches:
            batch = batch.to(self.model.device)
            tokens_IPD = self.model.project(self.model.encode(batch.pixels_ICHW))
            labels = self.model.label_embeddings(batch.label_ids)
            covered_IRP = self.model.projector.token_coverage(batch.coverage_IRS) >= COVERED
            for image, there_R in enumerate(batch.region_mask_IR):
                if there_R.any():
                    meter.add(
                        tokens_IPD[image].float(),
                        labels[batch.label_index_IR[image, there_R]].float(),
                        covered_IRP[image, there_R],
                    )
        number = meter.num_regions
        total, number = self.workers.sum([meter.value * number if number else 0.0, number])
        return total / max(number, 1)


def train(
    run: Run, config: TrainConfig, workers: Workers, on_step: OnStep | None = None
) -> dict[str, float]:
    """Train `run` to its end from where it stands; returns the last step's figures.

    Does nothing where the run has come to its end, as after a worker that died in leaving. Raises
    `UserError` where models, data or a loss are not as they must be; what was saved stays.
    """
    if run.finished:
        return dict(run.facts["last"])
    trainer = load_trainer(run, config, workers)
    checkpoints = Checkpoints(run.url)
    state = checkpoints.load_last()
    first, best = 0, _Best()
    if state is not None:
        first, best = state["step"], _Best(**state["best"])
        _restore(trainer, state)
        if workers.rank == 0:
            logger.info("going on after step %d of %d", first, trainer.plan.num_steps)
    metrics, sinks = None, []
    if workers.rank == 0:
        metrics = MetricsFile(run.url, first)
        sinks = open_sinks(config.loggers, run.url, first, run.facts["config"])
    values: dict[str, float] = {}
    try:
        values = _steps(trainer, checkpoints, first, best, metrics, sinks, on_step)
    finally:
        for sink in (*([metrics] if metrics else []), *sinks):
            sink.close()
    weights = gather_weights(trainer.model) if is_sharded(trainer.model) else None
    if workers.rank == 0:
        for problem, count in trainer.loader.problems.most_common():
            logger.warning("%s samples: %s", f"{count:,}", problem)
        write_results(run, trainer.model, trainer.loader.tokenizer, weights)
        facts = {**run.facts, "state": "finished", "last": values, "best_step": best.step}
        write_run(dataclasses.replace(run, facts=facts))
        storage.remove(run.samples_url)
    return values


def _steps(
    trainer: Trainer,
    checkpoints: Checkpoints,
    first: int,
    best: _Best,
    metrics: MetricsFile | None,
    sinks: list[Sink],
    on_step: OnStep | None,
) -> dict[str, float]:
    config, workers, num_steps = trainer.config, trainer.workers, trainer.plan.num_steps
    values: dict[str, float] = {}
    trainer.model.train()
    for step, batches, waited_s in trainer.loader.steps(
        trainer.plan, first, workers.rank, workers.size
    ):
        began = time.perf_counter()
        rate = trainer.set_learning_rate(step)
        weight = trainer.beta(step)
        figures = training_step(
            trainer.model,
            trainer.optimizer,
            trainer.fill(batches),
            beta=weight,
            config=config,
            workers=workers,
            step=step,
        )
        values = _values(figures, rate, weight, waited_s, time.perf_counter() - began)
        done = step + 1
        improved = False
        if done % config.validate_every == 0 or done == num_steps:
            values |= trainer.validate()
            improved = best.see(done, values.get("validation/loss", math.inf))
        if metrics is not None:
            for sink in (metrics, *sinks):
                sink.write(step, values)
        if improved or done % config.checkpoint_every == 0 or done == num_steps:
            state = _state(trainer, best)
            # First the figures: a run that goes on drops those behind its checkpoint, and cannot
            # make up for those before it.
            if metrics is not None:
                metrics.flush()
            if workers.rank == 0:
                checkpoints.save(done, state, best_step=best.step)
        if on_step is not None:
            on_step(done, num_steps, values)
    return values


def load_trainer(run: Run, config: TrainConfig, workers: Workers) -> Trainer:
    """Model, data and optimiser of a run before its first step."""
    torch.manual_seed(config.seed)
    model, tokenizer = load_run_model(run, config)
    # Low-rank adapters are small: each worker has them all, beside the frozen weights.
    if run.facts["stage"] == "finetune" and workers.size > 1 and not config.lora_rank:
        shard(model)
    samples = Samples(local_copy(run.samples_url))
    plan = make_plan(config, samples.lengths)
    loader = Loader(samples, tokenizer, config, image_format(model, config.vision))
    if workers.rank == 0:
        logger.info(model.describe())
    return Trainer(config, model, make_optimizer(model, config), loader, plan, workers)


def make_optimizer(model: VisionLanguageModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what is trained; the projector may have a learning rate of its own."""
    projector = [p for p in model.projector.parameters() if p.requires_grad]
    inside = {id(parameter) for parameter in projector}
    others = [p for p in model.trained_parameters() if id(p) not in inside]
    rate = config.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": others, "peak_lr": rate},
        {"params": projector, "peak_lr": config.projector_learning_rate or rate},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=config.weight_decay,
    )


@dataclass
class _Best:
    """The checkpoint with the lowest loss on the held-out samples."""

    step: int | None = None
    loss: float = math.inf

    def see(self, step: int, loss: float) -> bool:
        """Whether `step` is the best so far."""
        if loss >= self.loss:
            return False
        self.step, self.loss = step, loss
        return True


def _state(trainer: Trainer, best: _Best) -> dict[str, Any]:
    """What a checkpoint holds; all workers must call it."""
    if is_sharded(trainer.model):
        trained = gather_state(trainer.model, trainer.optimizer)
    else:
        trained = {
            "weights": {name: t.cpu() for name, t in trainer.model.trained_state().items()},
            "optimizer": trainer.optimizer.state_dict(),
        }
    return {
        **trained,
        "sharded": is_sharded(trainer.model),
        "random": random_state(),
        "best": dataclasses.asdict(best),
    }


def _restore(trainer: Trainer, state: dict[str, Any]) -> None:
    if state["sharded"] != is_sharded(trainer.model):
        raise UserError(
            "stage 2 goes on with one worker where it was begun with one, and with several where "
            "it was begun with several; give --workers accordingly"
        )
    if is_sharded(trainer.model):
        scatter_state(trainer.model, trainer.optimizer, state)
    else:
        trainer.model.load_trained_state(state["weights"], source="the checkpoint")
        trainer.optimizer.load_state_dict(state["optimizer"])
    restore_random_state(state["random"])


def _values(
    figures: StepFigures, rate: float, weight: float, waited_s: float, step_s: float
) -> dict[str, float]:
    values = {
        "caption_loss": figures.caption_loss,
        "patch_loss": figures.patch_loss,
        "loss": figures.caption_loss + weight * figures.patch_loss,
        "beta": weight,
        "cosine": figures.cosine,
        "regions_per_image": figures.num_regions / max(figures.num_images, 1),
        "dropped_share": figures.num_dropped / max(figures.num_regions + figures.num_dropped, 1),
        "learning_rate": rate,
        "gradient_norm": figures.gradient_norm,
        "tokens_per_s": figures.num_tokens / max(step_s + waited_s, 1e-9),
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
