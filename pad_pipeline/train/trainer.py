"""What the steps of a run need, loaded: model, optimiser, batches; and the held-out measurement."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from pad_pipeline.evaluate.measures.alignment import AlignmentMeter
from pad_pipeline.train.averaging import AveragedWeights
from pad_pipeline.train.choices import trains_llm
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.loader import Loader
from pad_pipeline.train.data.sample_file import TrainingSamples, local_copy
from pad_pipeline.train.data.sampler import StepSampler, make_sampler
from pad_pipeline.train.distributed import Workers
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.regions import covered_tokens
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import Run
from pad_pipeline.train.run.models import load_run_model, vision_input
from pad_pipeline.train.schedule import beta, learning_rate_factor
from pad_pipeline.train.sharding import is_sharded, shard
from pad_pipeline.train.step import evaluation_step

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Trainer:
    """Everything that a run's steps need, loaded."""

    config: TrainConfig
    model: VisionLanguageModel
    optimizer: torch.optim.Optimizer
    loader: Loader
    sampler: StepSampler
    workers: Workers
    averaged: AveragedWeights | None = None

    def with_averages(self) -> AbstractContextManager[None]:
        """The model has the averaged weights in the block, if the run averages."""
        return nullcontext() if self.averaged is None else self.averaged.in_place()

    def set_learning_rate(self, step: int) -> float:
        """Set every group's learning rate for `step`; returns the first group's."""
        factor = learning_rate_factor(step, self.sampler.num_steps, self.config.warmup_share)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
        return self.optimizer.param_groups[0]["lr"]

    def beta(self, step: int) -> float:
        """The weight of the patch loss at `step`."""
        return beta(step, self.sampler.num_steps, self.config.patch_weight)

    def pad_micro_batches(self, batches: list[Batch]) -> list[Batch]:
        """As many micro-batches on every worker: sharded passes run in step with each other.

        What is added has no target and no region, so it changes no metric.
        """
        if not is_sharded(self.model):
            return batches
        missing = self.workers.all_reduce_max(len(batches)) - len(batches)
        if not missing:
            return batches
        empty = self.loader.micro_batches(self.sampler.train[:1])[0].without_targets()
        return [*batches, *[empty] * missing]

    def validate(self) -> dict[str, float]:
        """Metrics of the held-out samples, of the averaged weights if the run averages; {} where
        there are none."""
        with self.with_averages():
            return self._validate()

    def _validate(self) -> dict[str, float]:
        if not len(self.sampler.validation):
            return {}
        batches = self.pad_micro_batches(
            self.loader.micro_batches(
                self.sampler.validation[self.workers.rank :: self.workers.size]
            )
        )
        self.model.eval()
        metrics = evaluation_step(self.model, batches, self.config, self.workers)
        align = self._align(batches)
        self.model.train()
        loss = metrics.caption_loss + self.config.patch_weight * metrics.patch_loss
        values = {"validation/caption_loss": metrics.caption_loss}
        if metrics.reconstruction_loss is not None:
            values["validation/reconstruction_loss"] = metrics.reconstruction_loss
            loss += self.config.image_loss_weight * metrics.reconstruction_loss
        values["validation/loss"] = loss
        [num_problems] = self.workers.sum([sum(batch.problems.total() for batch in batches)])
        if num_problems:
            values["validation/problem_samples"] = num_problems
        if metrics.num_regions:
            values |= {
                "validation/patch_loss": metrics.patch_loss,
                "validation/cosine": metrics.cosine,
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
            coverage_IRP = self.model.projector.token_coverage(batch.coverage_IRS)
            covered_IRP = covered_tokens(coverage_IRP)
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


def load_trainer(run: Run, config: TrainConfig, workers: Workers) -> Trainer:
    """Model, data and optimiser of a run before its first step."""
    torch.manual_seed(config.seed)
    model, tokenizer = load_run_model(run, config)
    # Low-rank adapters are small: each worker has them all, beside the frozen weights.
    if trains_llm(run.facts["stage"]) and workers.size > 1 and not config.lora_rank:
        shard(model)
    samples = TrainingSamples(local_copy(run.samples_url))
    sampler = make_sampler(config, samples.lengths, samples.sources)
    loader = Loader(samples, tokenizer, config, vision_input(model, config.vision))
    if workers.rank == 0:
        logger.info(model.describe())
    optimizer = make_optimizer(model, config)
    averaged = AveragedWeights(model, config.ema_decay) if config.ema_decay else None
    return Trainer(config, model, optimizer, loader, sampler, workers, averaged)


def make_optimizer(model: VisionLanguageModel, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW over what is trained; each part has its own peak learning rate."""
    parts: dict[str, list[torch.nn.Parameter]] = {"llm": [], "projector": []}
    for name, parameter in model.named_trained_parameters():
        parts.setdefault(name.split(".", 1)[0], []).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": parameters, "peak_lr": config.peak_learning_rate(part)}
        for part, parameters in parts.items()
        if parameters
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=config.weight_decay,
    )
