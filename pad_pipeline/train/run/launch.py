"""The front door of training: check everything, begin or take up the run, train, report."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage.locks import only_run_on
from pad_pipeline.train.data.samples import Samples, local_copy
from pad_pipeline.train.data.steps import make_plan
from pad_pipeline.train.model.load import load_model
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import Stage, TrainConfig
from pad_pipeline.train.run.files import open_run, read_run
from pad_pipeline.train.run.models import device_and_dtype, image_format, locate, projector_kind_of
from pad_pipeline.train.text.encode import load_tokenizer

logger = logging.getLogger(__name__)

_LINE_EVERY_STEPS = 20


def launch(
    stage: Stage,
    config: TrainConfig,
    *,
    source: str,
    output: str,
    images: str | None = None,
    projector: str | None = None,
    ray_address: str | None = None,
    ray_logs: bool = False,
    console: Console | None = None,
) -> list[str]:
    """Train on Ray to the end and return the report's lines.

    The same call again goes on from the last checkpoint; a finished run is left as it is. Raises
    `UserError` where input, models, output or cluster are not as they must be.
    """
    source, output, images, projector = _absolute(source, output, images, projector)
    assert output is not None
    config = _with_projector(config, projector)
    check_models(config)
    console = console or Console(stderr=True)
    with only_run_on(output):
        run = open_run(output, stage, config, source, images, projector)
        if run.finished:
            logger.info("%s is finished already; nothing to do", output)
            return _report(output)
        samples = Samples(local_copy(run.samples_url))
        plan = make_plan(config, samples.lengths)
        logger.info(
            "training on %s samples, %s held out: %s steps",
            f"{len(plan.train):,}",
            f"{len(plan.validation):,}",
            f"{plan.num_steps:,}",
        )
        # Ray is imported late: errors in the arguments should not wait for it.
        try:
            from pad_pipeline.train.run.on_ray import train_on_ray
        except ImportError as error:
            raise UserError(
                f"training needs more packages ({error}): pip install 'pad-pipeline[train]'"
            ) from error

        with _progress(console, plan.num_steps) as progress:
            train_on_ray(run, config, ray_address=ray_address, ray_logs=ray_logs, progress=progress)
        return _report(output)


def dry_run(
    stage: Stage,
    config: TrainConfig,
    source: str,
    images: str | None,
    projector: str | None,
) -> list[str]:
    """What a run would do, in lines: samples, steps, tokens, parameters, memory. Writes nothing.

    The memory is an estimate from the sizes alone (weights, gradients, optimiser, activations).
    """
    import tempfile
    from pathlib import Path

    from pad_pipeline.train.data.samples import write_samples

    config = _with_projector(config, projector)
    check_models(config)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "samples.arrow")
        number, left_out = write_samples(source, images, stage, path)
        samples = Samples(path)
        plan = make_plan(config, samples.lengths)
        sampled = [samples[int(i)] for i in plan.train[:: max(1, len(plan.train) // 200)]]
    model = _on_meta(config)
    model.freeze(stage)
    image = image_format(model, config.vision)
    tokenizer = load_tokenizer(locate(config.llm, "language"))
    lengths = [
        len(tokenizer(" ".join(t["value"] for t in s.turns or []) or s.caption or "").input_ids)
        + (image.num_tokens if s.image is not None else 0)
        for s in sampled
    ]
    mean = min(sum(lengths) / max(len(lengths), 1), config.max_length)
    return [
        f"samples           {number:,} ({len(plan.train):,} to train on, "
        f"{len(plan.validation):,} held out)",
        *(f"left out          {count:,} {reason}" for reason, count in left_out.most_common()),
        f"steps             {plan.num_steps:,} of {config.global_batch} samples "
        f"({config.epochs} epochs of {plan.steps_per_epoch:,}), {config.workers} workers, "
        f"{_micro_batches(config)} micro-batches of {config.micro_batch} each",
        f"tokens per step   {round(mean * config.global_batch):,} ({image.num_tokens} per image)",
        *model.describe().splitlines(),
        f"memory per worker {_memory_gb(model, config, stage, mean):.1f} GB (estimate)",
    ]


def check_models(config: TrainConfig) -> None:
    """Raise `UserError` where tower, projector, language model or tokenizer do not fit."""
    _on_meta(config)
    load_tokenizer(locate(config.llm, "language"))


def _on_meta(config: TrainConfig) -> VisionLanguageModel:
    return load_model(
        locate(config.vision, "vision"),
        locate(config.llm, "language"),
        config.projector_kind,
        device="meta",
        dtype=torch.float32,
        num_tokens=config.image_tokens,
    )


def _with_projector(config: TrainConfig, projector: str | None) -> TrainConfig:
    if projector is None:
        return config
    if config.patch_weight:
        raise UserError("--patch-weight is for stage 1: conversations have no regions")
    kind = projector_kind_of(projector)
    trained = read_run(projector).facts["config"]
    if trained["vision"] != config.vision:
        raise UserError(
            f"the projector of {projector} was trained with the tower {trained['vision']}, not "
            f"{config.vision}; give --vision {trained['vision']}"
        )
    return dataclasses.replace(
        config,
        projector_kind=kind,
        image_tokens=trained["image_tokens"],  # type: ignore[arg-type]
    )


def _micro_batches(config: TrainConfig) -> int:
    return math.ceil(math.ceil(config.global_batch / config.workers) / config.micro_batch)


def _memory_gb(model: VisionLanguageModel, config: TrainConfig, stage: Stage, mean: float) -> float:
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


def _absolute(
    source: str, output: str, images: str | None, projector: str | None
) -> tuple[str, str, str | None, str | None]:
    return (
        storage.absolute(source),
        storage.absolute(output),
        storage.absolute(images) if images is not None else None,
        storage.absolute(projector) if projector is not None else None,
    )


def _report(url: str) -> list[str]:
    facts = read_run(url).facts
    last = facts["last"]
    names = {
        "caption_loss": "caption loss",
        "patch_loss": "patch loss",
        "cosine": "cosine",
        "validation/caption_loss": "held-out caption loss",
        "validation/cosine": "held-out cosine",
        "validation/align": "held-out Align",
    }
    return [
        f"finished {url}",
        *(f"{label:22} {last[key]:.4f}" for key, label in names.items() if key in last),
    ]


@contextmanager
def _progress(console: Console, num_steps: int) -> Iterator[Any]:
    """A bar on a terminal, else a log line every few steps."""
    if not console.is_terminal:

        def line(values: dict[str, Any]) -> None:
            done = values["step"] + 1
            if done % _LINE_EVERY_STEPS == 0 or done == num_steps:
                logger.info("step %d of %d: %s", done, num_steps, _figures(values))

        yield line
        return
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=num_steps)
        yield lambda values: bar.update(
            task, completed=values["step"] + 1, description=_figures(values)
        )


def _figures(values: dict[str, Any]) -> str:
    text = f"caption {values['caption_loss']:.3f}, patch {values['patch_loss']:.3f}"
    text += f", cosine {values['cosine']:.3f}, {values['tokens_per_s']:,.0f} tokens/s"
    if values["waiting_share"] > 0.05:
        text += f", {values['waiting_share']:.0%} of the time waiting for data"
    return text
