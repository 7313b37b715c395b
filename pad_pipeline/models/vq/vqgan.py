"""VQGAN (Esser et al., arXiv 2012.09841): encoder, codebook and decoder, without its losses.

The modules have the names of taming-transformers, so its checkpoints load without renaming.
Shapes: N images, C channels of a code, H and W pixels, h and w codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from pad_pipeline.models.vq.codebook import Codebook, VqNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class VqganConfig:
    """The sizes of a VQGAN; a level after the first halves both sides of the image.

    `attention_levels` are those whose blocks are each followed by self-attention, as the middle
    always has it.
    """

    stem_channels: int
    level_channels: tuple[int, ...]
    blocks_per_level: int
    attention_levels: tuple[int, ...]
    latent_channels: int
    code_channels: int
    num_codes: int
    norm_groups: int = 32

    @property
    def factor(self) -> int:
        """Pixels along each side of a code."""
        return 2 ** (len(self.level_channels) - 1)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VqganConfig:
        """The inverse of `to_dict`; raises `KeyError` and `TypeError` for other contents."""
        found: dict[str, Any] = {name: values[name] for name in cls.__dataclass_fields__}
        for name in ("level_channels", "attention_levels"):
            found[name] = tuple(found[name])
        return cls(**found)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Vqgan(VqNetwork):
    """A VQGAN."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        self.config = config
        self.factor, self.num_codes = config.factor, config.num_codes
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = Codebook(config.num_codes, config.code_channels)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.code_channels, config.latent_channels, 1)

    def encode(self, pixels_N3HW: Tensor) -> Tensor:
        """Latents before quantisation, (N, C, h, w), of pixels from -1 to 1."""
        return self.quant_conv(self.encoder(pixels_N3HW))

    def decode(self, codes_NChw: Tensor) -> Tensor:
        """Pixels, about -1 to 1, (N, 3, H, W), of codes or of latents."""
        return self.decoder(self.post_quant_conv(codes_NChw))


class Encoder(nn.Module):
    """Pixels to latents."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(3, config.stem_channels, 3, padding=1)
        self.down = nn.ModuleList()
        width = config.stem_channels
        for index, channels in enumerate(config.level_channels):
            level = Level(config, index, width, config.blocks_per_level)
            width = channels
            if index < len(config.level_channels) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = Middle(config, width)
        self.norm_out = _norm(config, width)
        self.conv_out = nn.Conv2d(width, config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, latent channels, h, w)."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(self.mid(x))))


class Decoder(nn.Module):
    """Latents to pixels; its levels have a block more than the encoder's."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        width = config.level_channels[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid = Middle(config, width)
        levels = []
        for index in reversed(range(len(config.level_channels))):
            level = Level(config, index, width, config.blocks_per_level + 1)
            width = config.level_channels[index]
            if index:
                level.upsample = Upsample(width)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(config, width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, latent channels, h, w) to (N, 3, H, W)."""
        x = self.mid(self.conv_in(x))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(F.silu(self.norm_out(x)))


class Level(nn.Module):
    """The blocks of one resolution, the first of which takes `width` channels."""

    def __init__(self, config: VqganConfig, index: int, width: int, num_blocks: int) -> None:
        super().__init__()
        channels = config.level_channels[index]
        widths = [width] + [channels] * (num_blocks - 1)
        self.block = nn.ModuleList(ResidualBlock(config, each, channels) for each in widths)
        attends = index in config.attention_levels
        self.attn = nn.ModuleList(Attention(config, channels) for _ in widths if attends)
        self.downsample: Downsample | None = None
        self.upsample: Upsample | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the size of the next level."""
        for number, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[number](x)
        if self.downsample is not None:
            x = self.downsample(x)
        return x if self.upsample is None else self.upsample(x)


class Middle(nn.Module):
    """What all places see of each other at the lowest resolution."""

    def __init__(self, config: VqganConfig, width: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(config, width, width)
        self.attn_1 = Attention(config, width)
        self.block_2 = ResidualBlock(config, width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, h, w) to the same shape."""
        return self.block_2(self.attn_1(self.block_1(x)))


class ResidualBlock(nn.Module):
    """Two normalised convolutions beside a shortcut."""

    def __init__(self, config: VqganConfig, width: int, channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(config, width)
        self.conv1 = nn.Conv2d(width, channels, 3, padding=1)
        self.norm2 = _norm(config, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        if width != channels:
            self.nin_shortcut = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, channels, H, W)."""
        inner = self.conv1(F.silu(self.norm1(x)))
        inner = self.conv2(F.silu(self.norm2(inner)))
        return inner + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class Attention(nn.Module):
    """Self-attention of one head over all places."""

    def __init__(self, config: VqganConfig, width: int) -> None:
        super().__init__()
        self.norm = _norm(config, width)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(width, width, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to the same shape."""
        normed = self.norm(x)
        q, k, v = (
            conv(normed).flatten(2).transpose(1, 2)[:, None] for conv in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v)[:, 0].transpose(1, 2)
        return x + self.proj_out(mixed.reshape(x.shape))


class Downsample(nn.Module):
    """Half the height and width; the padding is at the right and bottom alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, width, H/2, W/2)."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the height and width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, width, H, W) to (N, width, 2H, 2W)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


def _norm(config: VqganConfig, width: int) -> nn.GroupNorm:
    return nn.GroupNorm(config.norm_groups, width, eps=1e-6)
