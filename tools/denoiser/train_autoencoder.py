"""Training of the embedded autoencoder: images of 64 px to latents of 16 × 16 × 4 and back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor

from tools.annotators.training_loop import Schedule, fit
from tools.language.frames import FramePack

logger = logging.getLogger(__name__)

IMAGE_SIZE = 64
BATCH = 16
SCHEDULE = Schedule(steps=1000, learning_rate=2e-3, warm_up_steps=100, weight_decay=0.0)
KL_WEIGHT = 1e-5
EDGE_WEIGHT = 0.5
CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [16, 32, 48],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 8,
    "sample_size": IMAGE_SIZE,
    "mid_block_add_attention": False,
}


def to_square(frames: np.ndarray) -> Tensor:
    """(B, H, W, 3) uint8 -> (B, 3, 64, 64) float32 in -1..1, as `train vlsa` makes its targets."""
    pixels = torch.tensor(frames).permute(0, 3, 1, 2).float() / 127.5 - 1
    return F.interpolate(pixels, IMAGE_SIZE, mode="bilinear", antialias=True, align_corners=False)


def draw_frames(pack: FramePack, size: int, seed: int, step: int) -> np.ndarray:
    """(B, 112, 112, 3) uint8 frames of a step: cropped or padded, half of them mirrored."""
    rng = np.random.default_rng((seed, step))
    rows = rng.choice(len(pack), size, replace=len(pack) < size)
    frames = [pack.pixels[row, rng.integers(pack.pixels.shape[1])] for row in rows]
    return np.stack([frame[:, :: (-1 if rng.random() < 0.5 else 1)] for frame in frames])


def losses(model: AutoencoderKL, images_BCHW: Tensor) -> dict[str, Tensor]:
    """Absolute differences of pixels and of their neighbours, and the distance from a normal."""
    posterior = model.encode(images_BCHW).latent_dist
    decoded_BCHW = model.decode(posterior.sample()).sample
    edges = sum(
        (torch.diff(decoded_BCHW, dim=dim) - torch.diff(images_BCHW, dim=dim)).abs().mean()
        for dim in (-1, -2)
    )
    return {
        "pixels": (decoded_BCHW - images_BCHW).abs().mean(),
        "edges": EDGE_WEIGHT * edges,
        "kl": KL_WEIGHT * posterior.kl().mean(),
    }


@torch.inference_mode()
def psnr(model: AutoencoderKL, images_BCHW: Tensor) -> float:
    """Mean signal-to-noise ratio (dB) of decoded images to their originals, both in -1..1."""
    decoded_BCHW = model.decode(model.encode(images_BCHW).latent_dist.mode()).sample.clamp(-1, 1)
    error_B = ((decoded_BCHW - images_BCHW) / 2).square().flatten(1).mean(1)
    return float((-10 * error_B.log10()).mean())


@torch.inference_mode()
def latent_scale(model: AutoencoderKL, images_BCHW: Tensor) -> float:
    """What makes the latents' deviation 1."""
    return float(1 / model.encode(images_BCHW).latent_dist.mode().std())


def train_autoencoder(
    pack: FramePack,
    held_out: FramePack,
    output: Path,
    *,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> AutoencoderKL:
    """Train, and leave the model (fp16, averaged weights) in `output`/model/vae."""
    torch.manual_seed(seed)
    model = AutoencoderKL(**CONFIG)  # pyright: ignore[reportArgumentType]
    kept = to_square(held_out.pixels[:, 0])

    def keep(model: torch.nn.Module, step: int) -> None:
        assert isinstance(model, AutoencoderKL)
        logger.info("step %d: %.2f dB on held-out scenes", step, psnr(model, kept))

    fit(
        model,
        lambda step: losses(model, to_square(draw_frames(pack, batch, seed, step))),
        schedule,
        output / "autoencoder",
        on_checkpoint=keep,
        max_minutes=max_minutes,
    )
    scale = latent_scale(model, to_square(pack.pixels[:256, 0]))
    scaled = AutoencoderKL(**CONFIG, scaling_factor=scale)  # pyright: ignore[reportArgumentType]
    scaled.load_state_dict(model.state_dict())
    scaled.half().save_pretrained(output / "model" / "vae")
    return model
