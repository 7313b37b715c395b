"""VQGAN (Esser et al., arXiv 2012.09841): encoder, codebook and decoder, without its losses.

The modules have the names of taming-transformers, so its checkpoints load without renaming.
Shapes: N images, C channels of a code, H and W pixels, h and w codes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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
        return cls(
            **{
                name: tuple(values[name]) if isinstance(values[name], list) else values[name]
                for name in cls.__dataclass_fields__
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


class Vqgan(nn.Module):
    """Pixels to indices and back."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quantize = nn.Module()
        self.quantize.embedding = nn.Embedding(config.num_codes, config.code_channels)
        self.quant_conv = nn.Conv2d(config.latent_channels, config.code_channels, 1)
        self.post_quant_conv = nn.Conv2d(config.code_channels, config.latent_channels, 1)

    def encode(self, pixels_N3HW: Tensor) -> Tensor:
        """Latents before quantisation, (N, C, h, w), of pixels from -1 to 1."""
        return self.quant_conv(self.encoder(pixels_N3HW))

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
            level = _level(config, index, width, config.blocks_per_level)
            width = channels
            if index < len(config.level_channels) - 1:
                level.downsample = Downsample(width)
            self.down.append(level)
        self.mid = _middle(config, width)
        self.norm_out = _norm(config, width)
        self.conv_out = nn.Conv2d(width, config.latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, latent channels, h, w)."""
        x = self.conv_in(x)
        for level in self.down:
            x = _run_level(level, x)
            if hasattr(level, "downsample"):
                x = level.downsample(x)
        return self.conv_out(F.silu(self.norm_out(_run_middle(self.mid, x))))


class Decoder(nn.Module):
    """Latents to pixels; its levels have a block more than the encoder's."""

    def __init__(self, config: VqganConfig) -> None:
        super().__init__()
        width = config.level_channels[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid = _middle(config, width)
        levels = []
        for index in reversed(range(len(config.level_channels))):
            level = _level(config, index, width, config.blocks_per_level + 1)
            width = config.level_channels[index]
            if index:
                level.upsample = Upsample(width)
            levels.insert(0, level)
        self.up = nn.ModuleList(levels)
        self.norm_out = _norm(config, width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, latent channels, h, w) to (N, 3, H, W)."""
        x = _run_middle(self.mid, self.conv_in(x))
        for level in reversed(self.up):
            x = _run_level(level, x)
            if hasattr(level, "upsample"):
                x = level.upsample(x)
        return self.conv_out(F.silu(self.norm_out(x)))


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


def _level(config: VqganConfig, index: int, width: int, num_blocks: int) -> Any:
    """The blocks of one level, the first of which takes `width` channels."""
    channels = config.level_channels[index]
    level = nn.Module()
    widths = [width] + [channels] * (num_blocks - 1)
    level.block = nn.ModuleList(ResidualBlock(config, each, channels) for each in widths)
    attends = index in config.attention_levels
    level.attn = nn.ModuleList(Attention(config, channels) for _ in widths if attends)
    return level


def _run_level(level: Any, x: Tensor) -> Tensor:
    for number, block in enumerate(level.block):
        x = block(x)
        if level.attn:
            x = level.attn[number](x)
    return x


def _middle(config: VqganConfig, width: int) -> nn.Module:
    middle = nn.Module()
    middle.block_1 = ResidualBlock(config, width, width)
    middle.attn_1 = Attention(config, width)
    middle.block_2 = ResidualBlock(config, width, width)
    return middle


def _run_middle(middle: Any, x: Tensor) -> Tensor:
    return middle.block_2(middle.attn_1(middle.block_1(x)))
