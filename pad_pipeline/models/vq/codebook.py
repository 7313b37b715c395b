"""What the VQ networks of this project share: a codebook between an encoder and a decoder.

Shapes: N images, C channels of a code, H and W pixels, h and w codes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Codebook(nn.Module):
    """The codes."""

    def __init__(self, num_codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_codes, channels)


class VqNetwork(nn.Module):
    """Pixels to indices and back; `encode` and `decode` are those of the networks.

    `config` has `to_dict`, from which and a class's `from_dict` a directory is read again.
    """

    config: Any
    factor: int
    num_codes: int
    quantize: Codebook

    def encode(self, pixels_N3HW: Tensor) -> Tensor:
        """Latents before quantisation, (N, C, h, w), of pixels from -1 to 1."""
        raise NotImplementedError

    def decode(self, codes_NChw: Tensor) -> Tensor:
        """Pixels, about -1 to 1, (N, 3, H, W), of codes or of latents."""
        raise NotImplementedError

    def nearest(self, latents_NChw: Tensor) -> Tensor:
        """The index of the nearest code of each place, (N, h, w) int64."""
        codes = self.quantize.embedding.weight.float()
        # one image at a time, and not by matrix products, whose last bits depend on their size:
        # so an image has the same indices in every batch as far as its latents are the same
        exact = "donot_use_mm_for_euclid_dist"
        return torch.stack(
            [
                torch.cdist(one.flatten(1).T.float(), codes, compute_mode=exact)
                .argmin(-1)
                .view(one.shape[1:])
                for one in latents_NChw
            ]
        )

    def look_up(self, indices_Nhw: Tensor) -> Tensor:
        """The codes of indices, (N, C, h, w)."""
        return self.quantize.embedding(indices_Nhw).permute(0, 3, 1, 2)
