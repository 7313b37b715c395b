"""A small VQ model of this project: patches by themselves to codes, codes together to pixels.

The encoder is a linear map of each patch, so its index does not depend on what lies around it. The
decoder adds convolutions on the codes' grid to such a map, and smooths the patches' edges. Little
of it works on whole pixels, so a CPU trains it in minutes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pad_pipeline.models.vq.codebook import Codebook, VqNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchVqConfig:
    """The sizes of a patch VQ model."""

    factor: int = 8
    width: int = 24
    decoder_blocks: int = 2
    smoothing_channels: int = 12
    code_channels: int = 8
    num_codes: int = 512

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PatchVqConfig:
        """The inverse of `to_dict`; raises `KeyError` for other contents."""
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class PatchVq(VqNetwork):
    """A patch VQ model; freshly made, its decoder is its linear map."""

    def __init__(self, config: PatchVqConfig) -> None:
        super().__init__()
        self.config = config
        self.factor, self.num_codes = config.factor, config.num_codes
        factor, width, codes = config.factor, config.width, config.code_channels
        self.quantize = Codebook(config.num_codes, codes)
        self.to_codes = nn.Conv2d(3, codes, factor, stride=factor)
        self.to_patches = nn.Conv2d(codes, 3 * factor**2, 1)
        self.spread = nn.Conv2d(codes, width, 3, padding=1)
        self.decoder = nn.Sequential(*(_Block(width) for _ in range(config.decoder_blocks)))
        self.refine_patches = nn.Conv2d(width, 3 * factor**2, 1)
        self.smooth_in = nn.Conv2d(3, config.smoothing_channels, 3, padding=1)
        self.smooth_out = nn.Conv2d(config.smoothing_channels, 3, 3, padding=1)
        _zero(self.refine_patches)
        _zero(self.smooth_out)

    def encode(self, pixels_N3HW: Tensor) -> Tensor:
        """Latents before quantisation, (N, C, h, w), of pixels from -1 to 1."""
        return self.to_codes(pixels_N3HW)

    def decode(self, codes_NChw: Tensor) -> Tensor:
        """Pixels, about -1 to 1, (N, 3, H, W), of codes or of latents."""
        seen = self.decoder(self.spread(codes_NChw))
        patches = self.to_patches(codes_NChw) + self.refine_patches(F.silu(seen))
        pixels = F.pixel_shuffle(patches, self.factor)
        return pixels + self.smooth_out(F.silu(self.smooth_in(pixels)))


class _Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        _zero(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, h, w) to the same shape."""
        return x + self.conv2(F.silu(self.conv1(F.silu(x))))


def _zero(layer: nn.Conv2d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
