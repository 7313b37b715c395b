"""What a training run would do, from its config and samples alone."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

from pad_pipeline.train.choices import TrainingStage
from pad_pipeline.train.data.sample_file import TrainingSamples, write_samples
from pad_pipeline.train.data.sampler import make_sampler
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.models import (
    check_models,
    device_and_dtype,
    load_skeleton,
    locate,
    vision_input,
    with_projector,
)
from pad_pipeline.train.text.encode import load_tokenizer


def dry_run(
    stage: TrainingStage,
    config: TrainConfig,
    source: str,
    images: str | None,
    projector: str | None,
) -> list[str]:
    """What a run would do, in lines: samples, steps, tokens, parameters, memory. Writes nothing.

    The memory is an estimate from the sizes alone (weights, gradients, optimiser, activations).
    """
    config = with_projector(config, projector)
    check_models(config)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.arrow")
        number, left_out = write_samples(
            source, images, stage, path, max_bad_share=config.max_bad_share
        )
        samples = TrainingSamples(path)
        sampler = make_sampler(config, samples.lengths)
        sampled = [samples[int(i)] for i in sampler.train[:: max(1, len(sampler.train) // 200)]]
    model = load_skeleton(config)
    model.freeze(stage)
    image = vision_input(model, config.vision)
    tokenizer = load_tokenizer(locate(config.llm, "language"))
    lengths = [
        len(tokenizer(" ".join(t["value"] for t in s.turns or []) or s.caption or "").input_ids)
        + (image.num_tokens if s.image is not None else 0)
        for s in sampled
    ]
    mean = min(sum(lengths) / max(len(lengths), 1), config.max_length)
    return [
        f"samples           {number:,} ({len(sampler.train):,} to train on, "
        f"{len(sampler.validation):,} held out)",
        *(f"left out          {line}" for line in left_out.lines()),
        f"steps             {sampler.num_steps:,} of {config.global_batch} samples "
        f"({config.epochs} epochs of {sampler.steps_per_epoch:,}), {config.workers} workers, "
        f"{_micro_batches(config)} micro-batches of {config.micro_batch} each",
        f"tokens per step   {round(mean * config.global_batch):,} ({image.num_tokens} per image)",
        *model.describe().splitlines(),
        f"memory per worker {_memory_gb(model, config, stage, mean):.1f} GB (estimate)",
    ]


def _micro_batches(config: TrainConfig) -> int:
    return math.ceil(math.ceil(config.global_batch / config.workers) / config.micro_batch)


def _memory_gb(
    model: VisionLanguageModel, config: TrainConfig, stage: TrainingStage, mean: float
) -> float:
    """Weights, gradients and AdamW's moments in float32 for what is trained, and activations."""
    _, dtype = device_and_dtype(config)
    counts = model.parameter_counts()
    trained = sum(count[0] for count in counts.values())
    frozen = sum(count[1] for count in counts.values())
    shards = config.workers if stage == "finetune" else 1
    weights = frozen * dtype.itemsize + trained * 16 / shards
    llm = model.llm.config
    per_layer = 2 if config.activation_checkpointing else 34  # widths kept per token and layer
    activations = (
        config.micro_batch * mean * llm.hidden_size * llm.num_hidden_layers * per_layer
    ) * dtype.itemsize
    return (weights + activations) / 1e9
