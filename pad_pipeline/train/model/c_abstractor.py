"""The C-Abstractor: convolutions, pooling, convolutions. It needs torch alone: exports copy it.

Architecture of Honeybee (Cha et al. 2024, arXiv 2312.06742, section 3.3): position embedding,
RegNet blocks, adaptive average pooling, RegNet blocks, two linear layers. Parameters carry the
names of the original, so that its checkpoints load.

Shapes: B batch, S patches (grid²), P tokens (token_grid²), V width of the patches, C channels
inside, D width of the tokens, H and W rows and columns of a grid.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

NORM_EPS = 1e-5


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation of each cell of a (B, C, H, W) map over its channels."""

    def forward(self, input: Tensor) -> Tensor:
        """The normalised map, of the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNorm(nn.Module):
    """A convolution without bias, normalisation, and SiLU if `active`."""

    def __init__(
        self, width_in: int, width: int, kernel: int, *, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            width_in, width, kernel, padding=kernel // 2, groups=groups, bias=False
        )
        self.bn = ChannelNorm(width, eps=NORM_EPS)
        self.act = nn.SiLU() if active else nn.Identity()

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """A map of the same height and width."""
        return self.act(self.bn(self.conv(map_BCHW)))


class SqueezeExcite(nn.Module):
    """Each channel scaled by a gate that sees the channels' means (Hu et al. 2018)."""

    def __init__(self, width: int, width_inside: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, width_inside, 1)
        self.fc2 = nn.Conv2d(width_inside, width, 1)

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """A map of the same shape."""
        mean_BC11 = map_BCHW.mean((2, 3), keepdim=True)
        return map_BCHW * self.fc2(functional.silu(self.fc1(mean_BC11))).sigmoid()


class Block(nn.Module):
    """A RegNet-Y bottleneck (Radosavovic et al. 2020) with a depth-wise 3x3 convolution."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(width_in, width, 1)
        self.conv2 = ConvNorm(width, width, 3, groups=width)
        self.se = SqueezeExcite(width, round(width_in * 0.25))
        self.conv3 = ConvNorm(width, width, 1, active=False)
        changes = width_in != width
        self.downsample = ConvNorm(width_in, width, 1, active=False) if changes else nn.Identity()

    def forward(self, map_BCHW: Tensor) -> Tensor:
        """A map of `width` channels and the same height and width."""
        inner = self.conv3(self.se(self.conv2(self.conv1(map_BCHW))))
        return functional.silu(inner + self.downsample(map_BCHW))


def _stage(width_in: int, width: int, depth: int) -> nn.Sequential:
    blocks = {f"b{i + 1}": Block(width if i else width_in, width) for i in range(depth)}
    return nn.Sequential(OrderedDict(blocks))


class CAbstractor(nn.Module):
    """Patches (B, S, V) of a grid x grid square to tokens (B, P, D) of a token_grid square."""

    def __init__(
        self,
        vision_width: int,
        llm_width: int,
        *,
        grid: int,
        token_grid: int,
        hidden_width: int = 1024,
        depth: int = 3,
    ) -> None:
        super().__init__()
        self.grid = grid
        self.pos_emb = nn.Parameter(torch.zeros(1, grid * grid, vision_width))
        self.net = nn.Sequential(
            _stage(vision_width, hidden_width, depth),
            nn.AdaptiveAvgPool2d(token_grid),
            _stage(hidden_width, hidden_width, depth),
        )
        self.readout = nn.Sequential(
            nn.Linear(hidden_width, llm_width), nn.SiLU(), nn.Linear(llm_width, llm_width)
        )
        nn.init.trunc_normal_(self.pos_emb, std=0.02)

    def forward(self, patches_BSV: Tensor) -> Tensor:
        """The tokens (B, P, D); the patches are left as they are."""
        placed_BSV = patches_BSV + self.pos_emb
        map_BVHW = placed_BSV.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        map_BCHW = self.net(map_BVHW)
        return self.readout(map_BCHW.flatten(2).transpose(1, 2))
