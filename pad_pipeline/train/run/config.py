"""The settings of a training run: a frozen dataclass whose field docstrings are the help."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from annotated_types import Ge, Interval, Le

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import AtLeastOne, Fraction, NotNegative, check_limits
from pad_pipeline.train.choices import (
    FrameGeometry,
    PatchLossKind,
    ProjectorKind,
    Template,
    TrainingStage,
)

_GRIDS = ("1x2", "2x1", "2x2", "3x1", "1x3")
"""LLaVA-NeXT's, in tiles."""
_GRID = re.compile(r"([1-9]\d?)x([1-9]\d?)")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run of stage 1 (`pretrain`) or stage 2 (`finetune`)."""

    vision: str
    """CLIP, SigLIP or DINOv2 vision tower: hub id, directory, or `embedded`."""
    llm: str
    """Causal language model: hub id, directory, or `embedded`."""
    select_layer: Annotated[int, Le(-1)] = -2
    """Layer of the vision tower whose output is projected; -1 is the last."""
    projector_kind: ProjectorKind = "mlp"
    """What stands between tower and language model; in stage 2 the one trained in stage 1 is
    taken."""
    image_tokens: AtLeastOne = 256
    """Tokens per image of the C-Abstractor, a square number; the others have one per patch."""
    geometry: FrameGeometry = "crop"
    """`crop` takes the centre square, `pad` adds borders in the tower's mean colour, `anyres` shows
    the whole image squashed and then in tiles, as LLaVA-NeXT does."""
    image_grid_pinpoints: tuple[str, ...] = _GRIDS
    """ROWSxCOLUMNS of tiles that `anyres` chooses from, by an image's size and proportions."""
    template: Template = "vicuna-v1"
    """How conversations are written (stage 2); `tokenizer` takes its own chat template."""
    max_length: AtLeastOne = 2048
    """Longest sequence, image tokens included; what is longer is cut, counted and reported."""
    max_bad_share: Fraction = 0.05
    """Share of the samples that may be left out as they cannot be trained on as written (0-1)."""
    global_batch: AtLeastOne = 256
    """Samples per optimiser step, over all workers."""
    micro_batch: AtLeastOne = 8
    """Samples per forward pass of one worker; gradients add up to the global batch."""
    pack_tokens: NotNegative = 0
    """Tokens per forward pass of one worker, with samples one behind another and no padding; takes
    the place of `micro_batch`. 0 pads."""
    epochs: AtLeastOne = 1
    """Times that every sample is seen."""
    max_steps: Annotated[int | None, Ge(1)] = None
    """End after this many optimiser steps."""
    learning_rate: Annotated[float, Ge(0)] = 1e-3
    """Peak learning rate; cosine decay to 0."""
    projector_learning_rate: float | None = None
    """Peak learning rate of the projector where it differs."""
    warmup_share: Fraction = 0.03
    """Share of the steps over which the learning rate rises (0-1)."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """AdamW's weight decay."""
    ema_decay: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Decay of a moving average of what is trained, such as 0.999, which is then measured and
    kept at the end; 0 takes none."""
    clip: Annotated[float, Ge(0)] = 1.0
    """Largest norm of the gradient; 0 does not clip."""
    patch_weight: Annotated[float, Ge(0)] = 5.0
    """Beta at the last step; it rises linearly from 0. 0 trains with the caption loss alone."""
    patch_loss: PatchLossKind = "region"
    """`region` is the paper's; `patch` compares every patch; `contrastive` is symmetric InfoNCE."""
    best_patch: bool = False
    """Give a region that covers no patch by half the one that it covers most."""
    sampler: Literal["random", "grouped"] = "random"
    """`grouped` puts samples of like length and modality into one batch."""
    lora_rank: NotNegative = 0
    """Train low-rank adapters of this rank in place of the language model's weights (stage 2)."""
    lora_alpha: float = 256.0
    """Scale of the adapters."""
    quantize_llm: bool = False
    """Keep the language model's own weights in 4 bits under the adapters (QLoRA)."""
    weights: tuple[float, ...] = ()
    """Of several sources, the part of each in an epoch; without, all samples of all are seen."""
    seed: int = 0
    """Seed of the projector's start, the order of the samples and what is held out."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run; `auto` takes the GPU where there is one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Data type of frozen weights and of the passes; `auto` is bfloat16 on a GPU and float32 on a
    CPU. What is trained is kept in float32."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: slower, much less memory."""
    kept_layers: NotNegative = 0
    """Layers of the language model that keep their activations all the same."""
    compile: bool = False
    """Compile the language model's layers, one by one."""
    num_validation: NotNegative = 100
    """Samples that are held out and measured; 0 holds out none."""
    validate_every: AtLeastOne = 200
    """Steps between measurements of the held-out samples."""
    checkpoint_every: AtLeastOne = 200
    """Steps between checkpoints."""
    workers: AtLeastOne = 1
    """Training workers of Ray Train, one GPU each where there are GPUs."""
    threads: NotNegative = 0
    """CPU threads of each worker's models; 0 shares the machine's cores among its workers."""
    loader_threads: AtLeastOne = 4
    """Threads of each worker that read and decode images ahead of the step."""
    max_failures: NotNegative = 3
    """Times that workers that died are started again."""
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Where the metrics go besides metrics.jsonl."""

    def peak_learning_rate(self, part: str) -> float:
        """The peak learning rate of a part of the model: "projector" or "llm"."""
        if part == "projector" and self.projector_learning_rate:
            return self.projector_learning_rate
        return self.learning_rate

    @property
    def image_loss_weight(self) -> float:
        """The weight of a reconstruction loss, which there is after VLSA only."""
        return 0.0

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before anything is loaded."""
        check_limits(self)
        if self.global_batch < self.workers:
            raise UserError(
                Setting("global_batch", self.global_batch),
                " is less than ",
                Setting("workers", self.workers),
                "; every worker needs a sample per step",
            )
        if self.pack_tokens and self.pack_tokens < self.max_length:
            raise UserError(
                Setting("pack_tokens", self.pack_tokens),
                " is less than ",
                Setting("max_length", self.max_length),
                "; a pack holds at least one sample, so give as many tokens or more",
            )
        if self.pack_tokens and self.patch_loss == "contrastive":
            raise UserError(
                Setting("patch_loss", "contrastive"),
                " compares the samples of a forward pass, whose number ",
                Setting("pack_tokens"),
                " would change; use one of the two",
            )
        if self.weights and (min(self.weights) < 0 or not 0 < sum(self.weights) < math.inf):
            raise UserError(
                Setting("weights"),
                f" must not be negative, and one of them more than 0, not {self.weights}",
            )
        if self.quantize_llm and not self.lora_rank:
            raise UserError(
                Setting("quantize_llm", True),
                " is for low-rank adapters, as weights in 4 bits cannot be trained; give ",
                Setting("lora_rank", 128),
            )
        if self.kept_layers and not self.activation_checkpointing:
            raise UserError(
                Setting("kept_layers"),
                " is for ",
                Setting("activation_checkpointing", True),
                "; without it all layers keep their activations",
            )
        if self.geometry == "anyres" and self.projector_kind == "c-abstractor":
            raise UserError(
                Setting("geometry", "anyres"),
                " needs a token for every patch, which the C-Abstractor does not give; use "
                "another projector or ",
                Setting("geometry", "pad"),
            )
        self.tile_grids  # noqa: B018 - refuses what is no grid
        if self.geometry != "anyres" and self.image_grid_pinpoints != _GRIDS:
            raise UserError(
                Setting("image_grid_pinpoints"), " are for ", Setting("geometry", "anyres")
            )
        if math.isqrt(self.image_tokens) ** 2 != self.image_tokens:
            raise UserError(
                Setting("image_tokens"), f" must be a square number, not {self.image_tokens}"
            )

    @property
    def tile_grids(self) -> list[tuple[int, int]]:
        """`image_grid_pinpoints` as (rows, columns)."""
        found = [_GRID.fullmatch(each) for each in self.image_grid_pinpoints]
        if not found or not all(found):
            raise UserError(
                Setting("image_grid_pinpoints"),
                " should be one or more ROWSxCOLUMNS, such as 1x2 2x2, not ",
                " ".join(self.image_grid_pinpoints) or "none",
            )
        return [(int(each[1]), int(each[2])) for each in found if each is not None]


# What shapes the run and not its result: it may differ when an interrupted run is resumed.
_NOT_IDENTITY = (
    "max_bad_share",
    "device",
    "micro_batch",
    "pack_tokens",
    "activation_checkpointing",
    "kept_layers",
    "compile",
    "validate_every",
    "checkpoint_every",
    "workers",
    "threads",
    "loader_threads",
    "max_failures",
    "loggers",
)


def identity(config: TrainConfig) -> dict[str, Any]:
    """Everything that decides what a run computes, as plain JSON values."""
    values = dataclasses.asdict(config)
    return {name: value for name, value in values.items() if name not in _NOT_IDENTITY}


def _paper_pretrain() -> TrainConfig:
    """LLaVA-1.5's stage 1 with the paper's patch loss (arXiv 2505.17316, appendix B)."""
    return TrainConfig(
        vision="openai/clip-vit-large-patch14-336",
        llm="lmsys/vicuna-7b-v1.5",
        activation_checkpointing=True,
        micro_batch=16,
    )


def _paper_finetune() -> TrainConfig:
    """LLaVA-1.5's stage 2."""
    return TrainConfig(
        vision="openai/clip-vit-large-patch14-336",
        llm="lmsys/vicuna-7b-v1.5",
        geometry="pad",
        global_batch=128,
        micro_batch=4,
        learning_rate=2e-5,
        patch_weight=0.0,
        sampler="grouped",
        activation_checkpointing=True,
    )


def _demo_pretrain() -> TrainConfig:
    """The embedded small models on scenes of `pad-pipeline demo`: seconds, not hours."""
    return TrainConfig(
        vision="embedded",
        llm="embedded",
        global_batch=16,
        micro_batch=16,
        epochs=20,
        learning_rate=3e-3,
        num_validation=8,
        validate_every=20,
        checkpoint_every=20,
        loader_threads=2,
    )


def _demo_finetune() -> TrainConfig:
    """Stage 2 of the embedded small models."""
    return dataclasses.replace(
        _demo_pretrain(),
        geometry="pad",
        epochs=4,
        learning_rate=5e-4,
        patch_weight=0.0,
        sampler="grouped",
    )


PRESETS: dict[TrainingStage, dict[str, Callable[[], TrainConfig]]] = {
    "pretrain": {"paper": _paper_pretrain, "demo": _demo_pretrain},
    "finetune": {"paper": _paper_finetune, "demo": _demo_finetune},
}
