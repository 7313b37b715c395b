"""TinyViT (arXiv 2207.10666) as MobileSAM (arXiv 2306.14289) has it in place of SAM's ViT.

Batch norms are folded into the convolutions before them. Legend of the shape suffixes: B images or
windows, C channels, H and W rows and columns, N tokens of a window, D features.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from huggingface_hub.dataclasses import strict
from torch import Tensor, nn
from transformers import PreTrainedConfig
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.sam.modeling_sam import SamVisionNeck


@strict
class TinyVitConfig(PreTrainedConfig):
    """The encoder's sizes, by stage; the defaults are MobileSAM's.

    `strides` are those of the convolutions between two stages, after a patch embedding that takes
    4 × 4 pixels. `num_pos_feats` belongs to SAM's prompt encoder, which reads it here.
    """

    base_config_key = "vision_config"
    model_type = "sam_tiny_vit"

    num_channels: int = 3
    image_size: int = 1024
    hidden_sizes: list[int] | tuple[int, ...] = (64, 128, 160, 320)
    depths: list[int] | tuple[int, ...] = (2, 2, 6, 2)
    num_attention_heads: list[int] | tuple[int, ...] = (2, 4, 5, 10)
    window_sizes: list[int] | tuple[int, ...] = (7, 7, 14, 7)
    strides: list[int] | tuple[int, ...] = (2, 2, 1)
    expand_ratio: int = 4
    mlp_ratio: int = 4
    output_channels: int = 256
    num_pos_feats: int = 128

    def __post_init__(self, **kwargs: Any) -> None:
        self.hidden_size = self.hidden_sizes[-1]  # SAM's neck reads it
        self.scale = self.num_pos_feats
        super().__post_init__(**kwargs)


class TinyVit(nn.Module):
    """Normalised pixels (B, 3, H, W) to the embedding (B, C, H / 16, W / 16)."""

    def __init__(self, config: TinyVitConfig) -> None:
        super().__init__()
        width = config.hidden_sizes[0]
        self.patch_embed = nn.Sequential(
            nn.Conv2d(config.num_channels, width // 2, 3, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(width // 2, width, 3, stride=2, padding=1),
        )
        self.stages = nn.ModuleList(
            Stage(config, index) for index in range(len(config.hidden_sizes))
        )
        sizes: Any = config  # the neck reads two of them, by the names that SAM's config has
        self.neck = SamVisionNeck(sizes)

    def forward(self, pixels_BCHW: Tensor) -> BaseModelOutput:
        """The embedding as `last_hidden_state`, as transformers' `SamVisionEncoder` gives it."""
        hidden_BCHW = self.patch_embed(pixels_BCHW)
        for stage in self.stages:
            hidden_BCHW = stage(hidden_BCHW)
        return BaseModelOutput(last_hidden_state=self.neck(hidden_BCHW.permute(0, 2, 3, 1)))


class Stage(nn.Module):
    """Blocks of one width, convolutions alone in the first stage, and the way to the next width."""

    def __init__(self, config: TinyVitConfig, index: int) -> None:
        super().__init__()
        width = config.hidden_sizes[index]
        self.blocks = nn.ModuleList(
            WindowBlock(config, index) if index else ResidualConvs(width, config.expand_ratio)
            for _ in range(config.depths[index])
        )
        self.downsample = None
        if index + 1 < len(config.hidden_sizes):
            wider = config.hidden_sizes[index + 1]
            self.downsample = SeparableConvs(width, wider, wider, config.strides[index])

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        for block in self.blocks:
            hidden_BCHW = block(hidden_BCHW)
        return hidden_BCHW if self.downsample is None else self.downsample(hidden_BCHW)


class SeparableConvs(nn.Module):
    """1 × 1, depthwise 3 × 3 and 1 × 1 convolutions."""

    def __init__(self, width: int, inner: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, inner, 1)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, groups=inner)
        self.conv3 = nn.Conv2d(inner, out, 1)

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(hidden_BCHW)))))


class ResidualConvs(SeparableConvs):
    """The same as a residual block, the inverted bottleneck of MobileNetV2."""

    def __init__(self, width: int, expand_ratio: int) -> None:
        super().__init__(width, expand_ratio * width, width)

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        return F.gelu(hidden_BCHW + super().forward(hidden_BCHW))


class WindowBlock(nn.Module):
    """Attention inside windows, a depthwise convolution across them, and an MLP."""

    def __init__(self, config: TinyVitConfig, index: int) -> None:
        super().__init__()
        width, self.window = config.hidden_sizes[index], config.window_sizes[index]
        self.attn = WindowAttention(width, config.num_attention_heads[index], self.window)
        self.local_conv = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, config.mlp_ratio * width),
            nn.GELU(),
            nn.Linear(config.mlp_ratio * width, width),
        )

    def forward(self, hidden_BCHW: Tensor) -> Tensor:
        tokens_BHWC = hidden_BCHW.permute(0, 2, 3, 1)
        attended = tokens_BHWC + self._attend(tokens_BHWC)
        mixed_BHWC = self.local_conv(attended.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (mixed_BHWC + self.mlp(mixed_BHWC)).permute(0, 3, 1, 2)

    def _attend(self, tokens_BHWC: Tensor) -> Tensor:
        """In windows; those at the right and bottom are filled up with zeros, which take part."""
        _, height, width, channels = tokens_BHWC.shape
        side = self.window
        padded = F.pad(tokens_BHWC, (0, 0, 0, -width % side, 0, -height % side))
        tiles = padded.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
        windows_BNC = self.attn(tiles.reshape(-1, side * side, channels))
        whole = windows_BNC.view(tiles.shape).transpose(2, 3).flatten(3, 4).flatten(1, 2)
        return whole[:, :height, :width]


class WindowAttention(nn.Module):
    """Attention of the N tokens of a window with a learned bias for every pair of them."""

    def __init__(self, width: int, heads: int, window: int) -> None:
        super().__init__()
        self.heads, tokens = heads, window * window
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)
        self.bias = nn.Parameter(torch.zeros(heads, tokens, tokens))

    def forward(self, tokens_BNC: Tensor) -> Tensor:
        # of every head its own query, key and value: (B, N, heads, 3, D) -> 3 × (B, heads, N, D)
        qkv = self.qkv(self.norm(tokens_BNC)).unflatten(2, (self.heads, 3, -1))
        query, key, value = qkv.permute(3, 0, 2, 1, 4)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=self.bias[None])
        return self.proj(read.transpose(1, 2).flatten(2))
