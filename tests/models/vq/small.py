"""VQ models that take milliseconds."""

from __future__ import annotations

import torch

from pad_pipeline.models.vq.vqgan import Vqgan, VqganConfig


def small_vqgan(
    factor: int = 8, num_codes: int = 64, norm_groups: int = 4, width: int = 4
) -> Vqgan:
    """An untrained VQGAN whose indices differ from place to place."""
    torch.manual_seed(0)
    levels = factor.bit_length()
    model = Vqgan(
        VqganConfig(
            stem_channels=width,
            level_channels=(width,) * levels,
            blocks_per_level=1,
            attention_levels=(),
            latent_channels=3,
            code_channels=2,
            num_codes=num_codes,
            norm_groups=norm_groups,
        )
    )
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.5)
    return model.eval()
