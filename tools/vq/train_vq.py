"""The embedded VQ model: principal components of patches, k-means, and a decoder that learns."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from pad_pipeline.models.vq.load import save_vq_network
from pad_pipeline.models.vq.patch_vq import PatchVq, PatchVqConfig
from tools.annotators.data import ScenePack, draw_batch
from tools.annotators.training_loop import Schedule, fit

logger = logging.getLogger(__name__)

CONFIG = PatchVqConfig()
BATCH, SIDE = 16, 48
SCHEDULE = Schedule(steps=3000, learning_rate=2e-3, averaging=0.995, betas=(0.9, 0.95))
SLOWER = {"to_patches": 0.02}
"""What begins near its goal."""
_SCALES = (0.4, 3.0)
"""Scenes are cut out at these scales: conversations may show them small or enlarged."""
_START_BATCHES = 100


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
    return torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2), rng


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
    torch.manual_seed(seed)
    model = PatchVq(CONFIG)
    start(model, pack, seed)
    for fixed in (model.to_codes, model.quantize):
        fixed.requires_grad_(False)
    logger.info("step 0: PSNR %.2f dB on unseen scenes", psnr(model, held_out))

    def losses(step: int) -> dict[str, Tensor]:
        pixels, _ = draw_crops(pack, seed, step)
        with torch.no_grad():
            codes = model.look_up(model.nearest(model.encode(pixels)))
        back = model.decode(codes)
        return {"absolute": F.l1_loss(back, pixels), "squared": 4 * F.mse_loss(back, pixels)}

    def report(model: nn.Module, step: int) -> None:
        assert isinstance(model, PatchVq)
        logger.info("step %d: PSNR %.2f dB on unseen scenes", step, psnr(model, held_out))
        save_vq_network(model, output / "model", dtype=torch.float16)

    model = fit(
        model,
        losses,
        schedule,
        output,
        slower=SLOWER,
        on_checkpoint=report,
        max_minutes=max_minutes,
    )
    assert isinstance(model, PatchVq)
    folder = output / "model"
    save_vq_network(model, folder, dtype=torch.float16)
    draw_picture(model, held_out, output / "reconstruction.png")
    facts = {"psnr": round(psnr(model, held_out), 2), "steps": schedule.steps}
    (output / "facts.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
    return folder


@torch.no_grad()
def start(model: PatchVq, pack: ScenePack, seed: int) -> None:
    """Principal components of patches as the linear maps, k-means of their latents as the codes."""
    crops = torch.cat([draw_crops(pack, seed + 1, number)[0] for number in range(_START_BATCHES)])
    patches = F.pixel_unshuffle(crops, model.factor).permute(0, 2, 3, 1).flatten(0, 2)
    mean = patches.mean(0)
    values, vectors = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    channels = model.config.code_channels
    components = vectors[:, -channels:].T
    scale = values[-1].sqrt()  # one for all: distances between latents stay those of patches
    shape = (channels, 3, model.factor, model.factor)
    model.to_codes.weight.copy_((components / scale).view(shape))
    assert model.to_codes.bias is not None
    assert model.to_patches.bias is not None
    model.to_codes.bias.copy_(-components @ mean / scale)
    model.to_patches.weight.copy_((components.T * scale)[:, :, None, None])
    model.to_patches.bias.copy_(mean)
    latents = model.encode(crops).permute(0, 2, 3, 1).flatten(0, 2)
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(latents), model.num_codes, replace=len(latents) < model.num_codes)
    codes = latents[torch.from_numpy(chosen)]
    for _ in range(20):
        nearest = torch.cdist(latents, codes).argmin(1)
        sums = torch.zeros_like(codes).index_add_(0, nearest, latents)
        counts = torch.bincount(nearest, minlength=len(codes))[:, None]
        codes = torch.where(counts > 0, sums / counts.clamp(min=1), codes)
    model.quantize.embedding.weight.copy_(codes)


@torch.no_grad()
def reconstruct(model: PatchVq, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of an image (H, W, 3) uint8 that whole codes cover, and what they give back."""
    height, width = (side // model.factor * model.factor for side in image.shape[:2])
    part = image[:height, :width]
    pixels = torch.from_numpy(part.astype(np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    back = model.decode(model.look_up(model.nearest(model.encode(pixels))))[0].permute(1, 2, 0)
    return part, ((back.clamp(-1, 1) + 1) * 127.5).round().byte().numpy()


def psnr(model: PatchVq, held_out: ScenePack, number: int = 40) -> float:
    """Mean over scenes at their own size, in dB, of what comes back from their indices."""
    values = []
    for row in range(number):
        part, back = reconstruct(model, held_out[row].image)
        error = np.square(part.astype(np.float64) - back).mean()
        values.append(10 * np.log10(255**2 / error))
    return float(np.mean(values))


def draw_picture(model: PatchVq, held_out: ScenePack, path: Path, number: int = 4) -> None:
    """Scenes that training never saw, and below each what comes back from its indices."""
    pairs = [reconstruct(model, held_out[row].image) for row in range(number)]
    gap, height = 8, max(part.shape[0] for part, _ in pairs)
    width = sum(part.shape[1] + gap for part, _ in pairs) + gap
    page = Image.new("RGB", (width, 2 * height + 3 * gap), "white")
    left = gap
    for part, back in pairs:
        page.paste(Image.fromarray(part), (left, gap))
        page.paste(Image.fromarray(back), (left, height + 2 * gap))
        left += part.shape[1] + gap
    page.save(path, optimize=True)
