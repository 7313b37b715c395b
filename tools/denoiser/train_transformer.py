"""Training of the embedded denoising transformer: latents of scenes, given the tower's patches.

It stands for a text-to-image model trained beforehand. What it is given are not words but the patch
features of the embedded vision tower (64 × 128), which say what is there, with sines of their
places added.
"""

from __future__ import annotations

import logging
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, DDPMScheduler, PixArtTransformer2DModel
from torch import Tensor, nn
from transformers import CLIPVisionModel

from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.train.model.perceiver import sine_positions
from pad_pipeline.train.model.towers import encode_patches
from tools.annotators.training_loop import Schedule, fit
from tools.denoiser.train_autoencoder import to_square
from tools.language.frames import GRID, FramePack
from tools.language.train_vision import USED_LAYER, to_pixels

logger = logging.getLogger(__name__)

BATCH = 16
SCHEDULE = Schedule(steps=10_500, learning_rate=1e-3, warm_up_steps=100, weight_decay=0.0)
CONFIG = {
    "num_attention_heads": 4,
    "attention_head_dim": 32,
    "in_channels": 4,
    "out_channels": 4,
    "num_layers": 4,
    "cross_attention_dim": 128,
    "sample_size": 16,
    "patch_size": 2,
    "norm_type": "ada_norm_single",
    "caption_channels": 128,
    "use_additional_conditions": False,
    "interpolation_scale": 1,
}
NOISE = {
    "num_train_timesteps": 1000,
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "v_prediction",
    "clip_sample": False,
}


def denoising_loss(
    transformer: PixArtTransformer2DModel,
    noise: DDPMScheduler,
    latents_BCHW: Tensor,
    condition_BSV: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Mean squared error of the velocity at times drawn at random."""
    times_B = torch.randint(1000, (len(latents_BCHW),), generator=generator)
    added_BCHW = torch.randn(latents_BCHW.shape, generator=generator)
    noisy_BCHW = noise.add_noise(latents_BCHW, added_BCHW, times_B)  # pyright: ignore
    wanted_BCHW = noise.get_velocity(latents_BCHW, added_BCHW, times_B)  # pyright: ignore
    predicted_BCHW = transformer(
        noisy_BCHW, encoder_hidden_states=condition_BSV, timestep=times_B
    ).sample
    return F.mse_loss(predicted_BCHW, wanted_BCHW)


@torch.no_grad()
def inputs_of(autoencoder: AutoencoderKL, pack: FramePack) -> tuple[Tensor, Tensor]:
    """Latents (N, 4, 16, 16) and the tower's patches with places (N, 64, 128), of all frames."""
    places = sine_positions(GRID, 128)
    tower = CLIPVisionModel.from_pretrained(EMBEDDED_WEIGHTS / "vision", dtype="float32").eval()
    scale = autoencoder.config["scaling_factor"]
    latents, patches = [], []
    frames = pack.pixels.reshape(-1, *pack.pixels.shape[2:])
    for start in range(0, len(frames), 32):
        part = frames[start : start + 32]
        latents.append(autoencoder.encode(to_square(part)).latent_dist.mode() * scale)
        patches.append(encode_patches(tower, to_pixels(part), USED_LAYER) + places)
    return torch.cat(latents), torch.cat(patches)


def train_transformer(
    pack: FramePack,
    held_out: FramePack,
    output: Path,
    *,
    schedule: Schedule = SCHEDULE,
    seed: int = 0,
    batch: int = BATCH,
    max_minutes: float | None = None,
) -> PixArtTransformer2DModel:
    """Train, and leave the transformer (fp16, averaged weights) and its noise in `output`/model."""
    place = output / "model"
    autoencoder = AutoencoderKL.from_pretrained(place / "vae", torch_dtype=torch.float32).eval()
    seen, kept = inputs_of(autoencoder, pack), inputs_of(autoencoder, held_out)
    torch.manual_seed(seed)
    transformer = PixArtTransformer2DModel(**CONFIG)  # pyright: ignore[reportArgumentType]
    noise = DDPMScheduler(**NOISE)  # pyright: ignore[reportArgumentType]

    def losses(step: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows_B = torch.randint(len(seen[0]), (batch,), generator=generator)
        latents_BCHW, patches_BSV = (each[rows_B] for each in seen)
        return {
            "velocity": denoising_loss(transformer, noise, latents_BCHW, patches_BSV, generator)
        }

    def keep(model: nn.Module, step: int) -> None:
        assert isinstance(model, PixArtTransformer2DModel)
        with torch.inference_mode():
            loss = denoising_loss(model, noise, *kept, torch.Generator().manual_seed(0))
        logger.info("step %d: loss %.4f on held-out scenes", step, float(loss))
        save(model, noise, place)

    fit(
        transformer,
        losses,
        schedule,
        output / "transformer",
        on_checkpoint=keep,
        max_minutes=max_minutes,
    )
    save(transformer, noise, place)
    return transformer


def save(transformer: PixArtTransformer2DModel, noise: DDPMScheduler, place: Path) -> None:
    """Write transformer (fp16) and noise in diffusers' layout; `transformer` stays as it is."""
    half = PixArtTransformer2DModel.from_config(transformer.config)
    half.load_state_dict(transformer.state_dict())
    half.half().save_pretrained(place / "transformer")
    noise.save_pretrained(place / "scheduler")
