"""What a training run would do, from its config and samples alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.data.examples import ExampleReader, SampleSize
from pad_pipeline.train.data.loader import micro_batch_indices
from pad_pipeline.train.data.sample_file import TrainingSamples, write_samples
from pad_pipeline.train.data.sample_sources import as_sources
from pad_pipeline.train.data.sampler import StepSampler, make_sampler
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.flops import FlopRates, PassSize, flop_rates, packed_pass, padded_pass
from pad_pipeline.train.run.folder import check_review, check_weights
from pad_pipeline.train.run.memory import MemoryEstimate
from pad_pipeline.train.run.models import (
    check_models,
    device_and_dtype,
    load_skeleton,
    locate,
    vision_input,
    with_projector,
)
from pad_pipeline.train.text.encode import load_tokenizer

_STEPS_READ = 4
_CARDS_GB = (24, 80)
_PACK_MULTIPLE = 1024


def dry_run(
    stage: TrainingStage,
    config: TrainConfig,
    source: str | Sequence[str],
    images: str | None,
    projector: str | None,
    regions: str | None = None,
    review: ReviewChoice | None = None,
) -> list[str]:
    """What a run would do, in lines: samples, steps, tokens, operations, memory. Writes nothing.

    Tokens and operations are means over a few steps of the run; the memory is an estimate from
    the sizes alone (weights, gradients, optimiser, activations).
    """
    config = with_projector(config, projector, regions)
    check_weights(config, source)
    check_review(review, source, regions)
    check_models(config)
    model = load_skeleton(config)
    model.freeze(stage)
    image = vision_input(model, config.vision)
    reader = ExampleReader(load_tokenizer(locate(config.llm, "language")), config, image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.arrow")
        number, left_out = write_samples(
            source,
            images,
            stage,
            path,
            max_bad_share=config.max_bad_share,
            regions=regions,
            review=review,
        )
        samples = TrainingSamples(path)
        sampler = make_sampler(config, samples.lengths, samples.sources)
        steps = _read_steps(sampler, lambda index: reader.size(samples[index]))
    rates = flop_rates(model, stage, recomputed_layers=_recomputed(model, config))
    padded = _passes(steps, replace(config, pack_tokens=0))
    packing = config if config.pack_tokens else replace(config, pack_tokens=_like(padded, config))
    packed = _passes(steps, packing)
    ours = packed if config.pack_tokens else padded
    _, dtype = device_and_dtype(config)
    memory = MemoryEstimate(model, config, stage, dtype)
    card_dtype = torch.bfloat16 if config.dtype == "auto" else dtype
    on_card = MemoryEstimate(model, config, stage, card_dtype)
    tokens = packed.tokens
    return [
        f"samples           {number:,} ({len(sampler.train):,} to train on, "
        f"{len(sampler.validation):,} held out)",
        *_describe_sources(sampler, source),
        *(f"left out          {line}" for line in left_out.lines()),
        f"steps             {sampler.num_steps:,} of {config.global_batch} samples "
        f"({config.epochs} epochs of {sampler.steps_per_epoch:,}), {config.workers} workers, "
        + (
            f"packs of up to {config.pack_tokens:,} tokens"
            if config.pack_tokens
            else f"{max(map(len, padded.steps[0]))} micro-batches of {config.micro_batch} each"
        ),
        f"tokens per step   {tokens:,.0f} ({image.num_tokens} per "
        + ("view of an image)" if config.geometry == "anyres" else "image)"),
        f"  padded          {padded.tokens:,.0f} in {padded.passes:.0f} passes, "
        f"{1 - tokens / padded.tokens:.1%} of them padding" + ", as set" * (ours is padded),
        f"  packed          {tokens:,.0f} in {packed.passes:.0f} passes of up to "
        f"{packing.pack_tokens:,} tokens" + ", as set" * (ours is packed),
        f"compute per step  {_flops(padded.flops(rates))} padded, "
        f"{_flops(packed.flops(rates))} packed; patch loss "
        f"{packed.patch_loss_share(rates):.2g} of it",
        *model.describe().splitlines(),
        *(
            ["                  denoiser and tower not counted in compute and activations"]
            * model.reconstructs
        ),
        f"memory per worker {_peak(memory, ours, config) / 1e9:.1f} GB (estimate)",
        *(_fit(on_card, config, packing.pack_tokens, card) for card in _CARDS_GB),
    ]


def _describe_sources(sampler: StepSampler, source: str | Sequence[str]) -> list[str]:
    """Of several sources, how many samples each has and how many of them an epoch sees."""
    names = as_sources(source)
    if len(names) == 1:
        return []
    there = np.bincount(sampler.sources[sampler.train], minlength=len(names))
    seen = np.bincount(sampler.sources[sampler.epoch(0)], minlength=len(names))
    return [
        f"  {name}: {number:,} to train on, {part:,} seen per epoch"
        for name, number, part in zip(names, there, seen, strict=True)
    ]


@dataclass(frozen=True)
class _Steps:
    """A few steps of a run: for each the passes of each worker."""

    steps: list[list[list[PassSize]]]

    @property
    def tokens(self) -> float:
        """Computed tokens of a step, all workers together."""
        return sum(each.tokens for each in self.all) / len(self.steps)

    @property
    def passes(self) -> float:
        """Passes of a step and worker."""
        return len(self.all) / len(self.steps) / len(self.steps[0])

    @property
    def all(self) -> list[PassSize]:
        """All passes of all workers and steps."""
        return [each for step in self.steps for worker in step for each in worker]

    def flops(self, rates: FlopRates) -> float:
        """Operations of a step, all workers together."""
        return rates.total(self.all) / len(self.steps)

    def patch_loss_share(self, rates: FlopRates) -> float:
        """The patch loss's share in them (0-1)."""
        return rates.patch_loss_share(self.all)


def _read_steps(
    sampler: StepSampler, size_of: Callable[[int], SampleSize]
) -> list[list[list[SampleSize]]]:
    """For a few steps, evenly spread, the sizes of each worker's samples."""
    whole = len(sampler.train) // sampler.config.global_batch  # the last step may be smaller
    number = min(sampler.num_steps, max(whole, 1))
    chosen = np.unique(np.linspace(0, number - 1, _STEPS_READ).round().astype(int))
    workers = sampler.config.workers
    return [
        [
            [size_of(int(index)) for index in sampler.worker_batch(int(step), worker, workers)]
            for worker in range(workers)
        ]
        for step in chosen
    ]


def _passes(steps: list[list[list[SampleSize]]], config: TrainConfig) -> _Steps:
    return _Steps([[_worker_passes(sizes, config) for sizes in step] for step in steps])


def _worker_passes(sizes: Sequence[SampleSize], config: TrainConfig) -> list[PassSize]:
    make = packed_pass if config.pack_tokens else padded_pass
    groups = micro_batch_indices([each.tokens for each in sizes], config)
    return [
        make(
            [sizes[index].tokens for index in group],
            images=sum(sizes[index].images for index in group),
            targets=sum(sizes[index].targets for index in group),
            regions=sum(sizes[index].regions for index in group),
        )
        for group in groups
    ]


def _like(padded: _Steps, config: TrainConfig) -> int:
    """A capacity of packs that holds about what a padded pass holds."""
    mean = padded.tokens / len(padded.steps[0]) / padded.passes
    return max(config.max_length, -(-round(mean) // _PACK_MULTIPLE) * _PACK_MULTIPLE)


def _recomputed(model: VisionLanguageModel, config: TrainConfig) -> int:
    layers = len(model.llm.get_decoder().layers)
    return max(layers - config.kept_layers, 0) if config.activation_checkpointing else 0


def _peak(memory: MemoryEstimate, steps: _Steps, config: TrainConfig) -> float:
    kept = min(config.kept_layers, memory.num_layers)
    kept = kept if config.activation_checkpointing else memory.num_layers
    return max(memory.peak(each.tokens, each.targets, kept) for each in steps.all)


def _fit(memory: MemoryEstimate, config: TrainConfig, pack_tokens: int, card_gb: int) -> str:
    """Which settings a card of this size holds."""
    name = f"  on {card_gb} GB".ljust(18)
    found = memory.fit(card_gb, pack_tokens, config.max_length)
    if found is None:
        return (
            f"{name}does not fit: {memory.fixed / 1e9:.1f} GB are weights, gradients and "
            "optimiser; use more workers (stage 2), low-rank adapters or a smaller model"
        )
    tokens, kept = found
    if kept == memory.num_layers:
        return f"{name}pack_tokens {tokens} and no activation_checkpointing"
    return f"{name}pack_tokens {tokens} and activation_checkpointing with kept_layers {kept}"


def _flops(number: float) -> str:
    for unit, size in (("PFLOP", 1e15), ("TFLOP", 1e12)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 1e9:.3g} GFLOP"
