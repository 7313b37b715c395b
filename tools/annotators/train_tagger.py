"""Training of the embedded tagger: RAM's architecture, small, from nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pad_pipeline.models.ram.config import RamConfig
from pad_pipeline.models.ram.load import save_ram
from pad_pipeline.models.ram.network import RecognizeAnything
from pad_pipeline.scenes.generator import KINDS
from tools.annotators.data import Sample, ScenePack, draw_batch, resize, to_tensor
from tools.annotators.training_loop import Schedule, fit

logger = logging.getLogger(__name__)

BATCH = 16
SCHEDULE = Schedule(steps=2400, learning_rate=1e-3, warm_up_steps=100)
CONFIG = RamConfig(
    tags=KINDS,
    thresholds=(0.5,) * len(KINDS),
    image_size=192,
    patch_size=4,
    window_size=6,
    embed_dim=32,
    depths=(2, 2, 6),
    num_heads=(1, 2, 4),
    mlp_ratio=2.0,
    image_proj_dim=128,
    label_dim=128,
    hidden_size=128,
    intermediate_size=256,
    resize_filter="bilinear",
)


def build_tagger(config: RamConfig = CONFIG) -> RecognizeAnything:
    """An untrained tagger; a rare tag's logit starts low."""
    model = RecognizeAnything(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            # deviations of .02 suit layers of a thousand; in small ones nothing gets through
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.constant_(model.fc.bias, -2.0)
    return model


class TaggerWithCells(nn.Module):
    """The tagger, and for training alone a classifier of every token of its image encoder.

    From tags only, the query head finds no first hold: the loss stays at the tags' frequencies.
    What each cell of the image shows teaches the encoder within minutes, and the head follows.
    """

    def __init__(self, tagger: RecognizeAnything) -> None:
        super().__init__()
        self.tagger = tagger
        self.cells = nn.Linear(tagger.config.vision_width, len(tagger.config.tags) + 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Tag logits (B, C) and cell logits (B, cells, C + 1), the last class being none."""
        tokens = self.tagger.encode_images(pixels)
        labels = self.tagger.labels()
        assert labels is not None
        image = self.tagger.image_proj(tokens)
        tags, query = labels
        for layer in self.tagger.tagging_head:
            tags, query = layer(tags, image, query), None
        return self.tagger.fc(tags)[..., 0], self.cells(tokens[:, 1:])


def cell_targets(sample: Sample, side: int, tags: int) -> Tensor:
    """(side², tags + 1) share of each cell of a side × side grid that shows each kind or none."""
    kinds = torch.tensor([tags, *sample.kinds.tolist()])[torch.from_numpy(sample.owner).long()]
    step = 4 * side  # four by four looks into every cell are enough
    rows, columns = (
        ((torch.arange(step) + 0.5) * (length / step)).long() for length in sample.owner.shape
    )
    seen = F.one_hot(kinds[rows][:, columns], tags + 1).float().permute(2, 0, 1)
    return F.avg_pool2d(seen, 4).flatten(1).T


def tagger_losses(
    model: TaggerWithCells, pack: ScenePack, batch: int, seed: int, step: int
) -> dict[str, Tensor]:
    """Cross-entropies of every tag and of every cell, of the batch of a step."""
    samples, _ = draw_batch(pack, batch, seed, step)
    config = model.tagger.config
    size, tags = config.image_size, len(config.tags)
    pixels = torch.stack([to_tensor(resize(s.image, size, size)) for s in samples])
    targets = torch.zeros(len(samples), tags)
    for row, sample in enumerate(samples):
        targets[row, np.unique(sample.kinds)] = 1
    logits, cells = model(pixels)
    side = size // config.smallest_image
    shown = torch.stack([cell_targets(sample, side, tags) for sample in samples])
    return {
        # weighted up: the mean over tags lets twenty easy absences drown one presence
        "tags": 5 * F.binary_cross_entropy_with_logits(logits, targets),
        "cells": 3 * F.cross_entropy(cells.flatten(0, 1), shown.flatten(0, 1)),
    }


@torch.inference_mode()
def tagger_f1(model: RecognizeAnything, pack: ScenePack, count: int) -> float:
    """Micro-F1 at the model's thresholds on the first scenes of `pack`."""
    size, hits, predicted, present = model.config.image_size, 0, 0, 0
    for start in range(0, count, 32):
        samples = [pack[i] for i in range(start, min(start + 32, count))]
        pixels = torch.stack([to_tensor(resize(s.image, size, size)) for s in samples])
        yes = (model(pixels).sigmoid() > 0.5).numpy()
        truth = np.zeros_like(yes)
        for row, sample in enumerate(samples):
            truth[row, sample.kinds] = True
        hits += int((yes & truth).sum())
        predicted, present = predicted + int(yes.sum()), present + int(truth.sum())
    return 2 * hits / max(predicted + present, 1)


def train_tagger(
    pack: ScenePack,
    held_out: ScenePack,
    output: Path,
    *,
    config: RamConfig = CONFIG,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> RecognizeAnything:
    """Train the tagger and leave a model directory in `output`/model, averaged weights, fp16."""
    torch.manual_seed(seed)
    model = TaggerWithCells(build_tagger(config))

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, TaggerWithCells)
        f1 = tagger_f1(model.tagger, held_out, len(held_out))
        logger.info("step %d: held-out micro-F1 %.4f", step, f1)
        save_tagger(model.tagger, output / "model")

    fit(
        model,
        lambda step: tagger_losses(model, pack, batch, seed, step),
        schedule,
        output,
        on_checkpoint=keep,
        max_minutes=max_minutes,
    )
    return model.tagger


def save_tagger(model: RecognizeAnything, directory: Path) -> None:
    """The model as a directory with weights in fp16; `model` itself stays as it is."""
    half = RecognizeAnything(model.config)
    half.load_state_dict(model.state_dict())
    save_ram(half.half(), directory)
