"""A resampler: tokens that begin as the image seen coarsely, and look at all patches.

After VLSA's SA-perceiver, of which its paper's appendix gives no more than the name; this is our
reading of it. Shapes: B batch, S patches (grid²), V width of the tower, P tokens (token_grid²), D
width of the LLM.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

_LAYERS = 2
_HEAD_WIDTH = 64


def sine_positions(side: int, width: int) -> Tensor:
    """(side², width): sines and cosines of a square grid's rows and columns, row by row.

    A quarter of the channels each for the sines and cosines of rows and of columns; channels that
    four does not divide are 0.
    """
    number = width // 4
    rates = 10000 ** (-torch.arange(number) / max(number, 1))
    angles = torch.arange(side).unsqueeze(1) * rates
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = line.repeat_interleave(side, 0), line.repeat(side, 1)
    return functional.pad(torch.cat([rows, columns], dim=1), (0, width - 4 * number))


class _Layer(nn.Module):
    """Tokens look at the patches, then each is worked on by itself; both are added to it."""

    def __init__(self, width: int, hidden_width: int) -> None:
        super().__init__()
        self.token_norm = nn.LayerNorm(width)
        self.patch_norm = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(
            width, max(1, width // _HEAD_WIDTH), batch_first=True
        )
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, hidden_width), nn.GELU(), nn.Linear(hidden_width, width)
        )

    def forward(self, tokens_BPV: Tensor, patches_BSV: Tensor) -> Tensor:
        keys_BSV = self.patch_norm(patches_BSV)
        seen_BPV, _ = self.attention(
            self.token_norm(tokens_BPV), keys_BSV, keys_BSV, need_weights=False
        )
        tokens_BPV = tokens_BPV + seen_BPV
        return tokens_BPV + self.mlp(self.mlp_norm(tokens_BPV))


class Perceiver(nn.Module):
    """Patches (B, S, V) to tokens (B, P, D), in the order of a coarser grid, row by row."""

    def __init__(
        self, vision_width: int, llm_width: int, *, grid: int, token_grid: int, hidden_width: int
    ) -> None:
        super().__init__()
        self.grid = grid
        self.token_grid = token_grid
        self.positions = nn.Parameter(sine_positions(token_grid, vision_width))
        self.layers = nn.ModuleList(_Layer(vision_width, hidden_width) for _ in range(_LAYERS))
        self.norm = nn.LayerNorm(vision_width)
        self.projection = nn.Linear(vision_width, llm_width)

    def forward(self, patches_BSV: Tensor) -> Tensor:
        """The tokens; patches are row by row."""
        grid_BVHW = patches_BSV.transpose(1, 2).unflatten(-1, (self.grid, self.grid))
        coarse_BVHW = functional.adaptive_avg_pool2d(grid_BVHW, self.token_grid)
        tokens_BPV = coarse_BVHW.flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers:
            tokens_BPV = layer(tokens_BPV, patches_BSV)
        return self.projection(self.norm(tokens_BPV))
