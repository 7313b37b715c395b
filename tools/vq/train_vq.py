"""The embedded VQ model: a VQGAN of few channels that learns to reconstruct drawn scenes.

It first learns without a codebook. Then the codes start as latents of the scenes, and those that
no latent is near start again, until most of the steps are done.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pad_pipeline.models.vq.network import Vqgan, VqganConfig
from tools.annotators.data import ScenePack, draw_batch
from tools.annotators.training_loop import Schedule, fit

logger = logging.getLogger(__name__)

CONFIG = VqganConfig(
    stem_channels=8,
    level_channels=(8, 24, 40, 40),
    blocks_per_level=1,
    attention_levels=(),
    latent_channels=8,
    code_channels=4,
    num_codes=512,
    norm_groups=8,
)
BATCH, SIDE = 8, 64
SCHEDULE = Schedule(steps=2600, learning_rate=2e-3, averaging=0.995, betas=(0.9, 0.95))
QUANTIZE_FROM = 400
"""The step at which the codes start as latents and quantisation begins."""
REVIVE_UNTIL, REVIVE_EVERY = 1800, 50
COMMITMENT = 0.25
_SCALES = (0.4, 3.0)
"""Scenes are cut out at these scales: conversations may show them small or enlarged."""


class Learner:
    """One step of training after another."""

    def __init__(self, model: Vqgan, pack: ScenePack, seed: int) -> None:
        self.model, self.pack, self.seed = model, pack, seed
        self.uses = torch.zeros(model.config.num_codes)

    def losses(self, step: int) -> dict[str, Tensor]:
        """The named losses of a step."""
        pixels, rng = draw_crops(self.pack, self.seed, step)
        latents = self.model.encode(pixels)
        if step < QUANTIZE_FROM:
            # codes stay near 0 for the widths of their cells to be alike
            return {**_distances(self.model.decode(latents), pixels), "size": 0.01 * _mean(latents)}
        codebook = self.model.quantize.embedding.weight
        with torch.no_grad():
            flat = latents.permute(0, 2, 3, 1).flatten(0, 2)
            if step == QUANTIZE_FROM:
                codebook.copy_(_spread(self.model, self.pack, self.seed, rng))
            elif step < REVIVE_UNTIL and step % REVIVE_EVERY == 0:
                unused = torch.nonzero(self.uses < 1).flatten()
                chosen = rng.choice(len(flat), len(unused), replace=len(flat) < len(unused))
                codebook[unused] = flat[torch.from_numpy(chosen)]
                self.uses.zero_()
            indices = self.model.nearest(latents)
            self.uses += torch.bincount(indices.flatten(), minlength=len(codebook))
        codes = self.model.look_up(indices)
        passed = latents + (codes - latents).detach()
        return {
            **_distances(self.model.decode(passed), pixels),
            "codes": F.mse_loss(codes, latents.detach()),
            "commitment": COMMITMENT * F.mse_loss(latents, codes.detach()),
        }


def draw_crops(pack: ScenePack, seed: int, step: int) -> tuple[Tensor, np.random.Generator]:
    """(BATCH, 3, SIDE, SIDE) from -1 to 1: squares out of scenes at random scales."""
    samples, rng = draw_batch(pack, BATCH, seed, step)
    crops = []
    for sample in samples:
        scale = np.exp(rng.uniform(*np.log(_SCALES)))
        height, width = sample.image.shape[:2]
        side = min(SIDE / scale, height, width)
        x, y = rng.uniform(0, width - side), rng.uniform(0, height - side)
        picture = Image.fromarray(sample.image)
        crop = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, (x, y, x + side, y + side))
        crops.append(np.asarray(crop, np.float32) / 127.5 - 1)
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).contiguous(), rng


def train_vq(
    pack: ScenePack,
    held_out: ScenePack,
    output: Path,
    *,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    max_minutes: float | None = None,
) -> Path:
    """Train, and write the model's directory; returns its path."""
    from pad_pipeline.models.vq.load import save_vqgan

    torch.manual_seed(seed)
    model = Vqgan(CONFIG)
    nn.init.normal_(model.quantize.embedding.weight, std=0.5)
    learner = Learner(model, pack, seed)

    def report(model: nn.Module, step: int) -> None:
        del model
        logger.info("step %d: PSNR %.2f dB on unseen scenes", step, psnr(learner.model, held_out))

    model = fit(
        model, learner.losses, schedule, output, on_checkpoint=report, max_minutes=max_minutes
    )
    folder = output / "model"
    save_vqgan(model, folder, dtype=torch.float16)
    facts = {"psnr": round(psnr(model, held_out), 2), "steps": schedule.steps}
    (output / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return folder


@torch.no_grad()
def psnr(model: Vqgan, held_out: ScenePack, number: int = 40) -> float:
    """Mean over scenes at their own size, in dB, of what comes back from their indices."""
    values = []
    for row in range(number):
        image = held_out[row].image
        height, width = (
            side // model.config.factor * model.config.factor for side in image.shape[:2]
        )
        pixels = torch.from_numpy(image[:height, :width].astype(np.float32) / 127.5 - 1)
        pixels = pixels.permute(2, 0, 1)[None]
        back = model.decode(model.look_up(model.nearest(model.encode(pixels))))
        error = (back.clamp(-1, 1) - pixels).square().mean() / 4
        values.append(-10 * float(torch.log10(error)))
    return float(np.mean(values))


def _distances(back: Tensor, pixels: Tensor) -> dict[str, Tensor]:
    return {"absolute": F.l1_loss(back, pixels), "squared": 2 * F.mse_loss(back, pixels)}


def _mean(latents: Tensor) -> Tensor:
    return latents.square().mean()


@torch.no_grad()
def _spread(model: Vqgan, pack: ScenePack, seed: int, rng: np.random.Generator) -> Tensor:
    """Codes all over the latents of scenes: k-means, a few rounds."""
    crops = [draw_crops(pack, seed + 1, number)[0] for number in range(16)]
    flat = torch.cat([model.encode(one).permute(0, 2, 3, 1).flatten(0, 2) for one in crops])
    codes = flat[torch.from_numpy(rng.choice(len(flat), model.config.num_codes, replace=False))]
    for _ in range(20):
        nearest = torch.cdist(flat, codes).argmin(1)
        sums = torch.zeros_like(codes).index_add_(0, nearest, flat)
        counts = torch.bincount(nearest, minlength=len(codes))[:, None]
        codes = torch.where(counts > 0, sums / counts.clamp(min=1), codes)
    return codes
