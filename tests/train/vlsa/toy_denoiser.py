"""A denoiser with random weights, for images of 32 pixels, as a pipeline directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, PixArtTransformer2DModel

TRANSFORMER: dict[str, Any] = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 4,
    "out_channels": 8,
    "num_layers": 2,
    "cross_attention_dim": 32,
    "sample_size": 8,
    "patch_size": 2,
    "norm_type": "ada_norm_single",
    "caption_channels": 24,
    "use_additional_conditions": False,
}
AUTOENCODER: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 3,
    "up_block_types": ["UpDecoderBlock2D"] * 3,
    "block_out_channels": [8, 8, 8],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "mid_block_add_attention": False,
    "scaling_factor": 0.7,
}


def write_denoiser(folder: Path, **noise: Any) -> Path:
    """Write the three parts; `noise` are settings of the scheduler."""
    torch.manual_seed(0)
    PixArtTransformer2DModel(**TRANSFORMER).save_pretrained(folder / "transformer")
    AutoencoderKL(**AUTOENCODER).save_pretrained(folder / "vae")
    DDPMScheduler(**noise).save_pretrained(folder / "scheduler")
    return folder
