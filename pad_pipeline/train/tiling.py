"""LLaVA-NeXT's AnyRes: which tiles an image is cut into, and which of their tokens the LLM reads.

An image is shown whole, squashed to the tower's square, and once more as large as the best of
several grids of such squares holds, in its middle. Source: Liu et al. 2024, "LLaVA-NeXT"; the
order of operations is that of transformers' `LlavaNext`, bit for bit.

Shapes: V views (the whole image, then its tiles row by row), P projected tokens of a view, D width
of the LLM, N tokens of all images as the LLM reads them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Grid = tuple[int, int]
"""(rows, columns) of tiles."""


@dataclass(frozen=True, slots=True)
class Tiling:
    """An image of `width` × `height` pixels in `rows` × `columns` tiles."""

    width: int
    height: int
    rows: int
    columns: int

    @property
    def num_views(self) -> int:
        """The tiles and the whole image."""
        return 1 + self.rows * self.columns

    def kept(self, grid: int) -> tuple[slice, slice]:
        """(rows, columns) of the tiles' tokens that are not padding, of all tiles together.

        `grid` is the side of a tile in tokens. As `unpad_image` of LLaVA-NeXT: the padding is
        computed from the image's proportions and rounded down.
        """
        down, across = self.rows * grid, self.columns * grid
        if self.width / self.height > across / down:
            content = int(round(self.height * (across / self.width), 7))
            padding = (down - content) // 2
            return slice(padding, down - padding), slice(0, across)
        content = int(round(self.width * (down / self.height), 7))
        padding = (across - content) // 2
        return slice(0, down), slice(padding, across - padding)

    def num_tokens(self, grid: int) -> int:
        """Tokens that the LLM reads: the whole image, the tiles without padding, a token at the
        end of each of their rows."""
        rows, columns = self.kept(grid)
        return grid**2 + (rows.stop - rows.start) * (columns.stop - columns.start + 1)

    def read_tokens(self, grid: int) -> NDArray[np.bool_]:
        """(V, P) which tokens of each view the LLM reads."""
        canvas = np.zeros((self.rows * grid, self.columns * grid), bool)
        canvas[self.kept(grid)] = True
        tiles = canvas.reshape(self.rows, grid, self.columns, grid).swapaxes(1, 2)
        return np.concatenate([np.ones((1, grid**2), bool), tiles.reshape(-1, grid**2)])


def choose_tiling(width: int, height: int, size: int, grids: Sequence[Grid]) -> Tiling:
    """The tiling that shows most of an image, and of several the one with the least padding.

    `size` is the side of a tile in pixels; of equal grids the first is taken.
    """

    def rank(grid: Grid) -> tuple[int, int]:
        down, across = grid[0] * size, grid[1] * size
        scale = min(across / width, down / height)
        shown = min(int(width * scale) * int(height * scale), width * height)
        return shown, shown - down * across

    rows, columns = max(grids, key=rank)
    return Tiling(width, height, rows, columns)


def pack_views(tokens_VPD: Tensor, tilings: Sequence[Tiling], newline_D: Tensor) -> Tensor:
    """(N, D): the tokens of the views of all images as the LLM reads them, image by image.

    Of each image first the whole, then the tiles' tokens row by row across tiles, without padding,
    each row closed by `newline_D`. Without images nothing, joined to the newline's graph: it gets
    gradients of exactly zero.
    """
    grid = math.isqrt(tokens_VPD.shape[1])
    packed = [newline_D[None][:0].to(tokens_VPD.dtype)]
    first = 0
    for tiling in tilings:
        tiles = tokens_VPD[first + 1 : first + tiling.num_views]
        tiles = tiles.unflatten(1, (grid, grid)).unflatten(0, (tiling.rows, tiling.columns))
        rows, columns = tiling.kept(grid)
        read = tiles.transpose(1, 2).flatten(2, 3).flatten(0, 1)[rows, columns]
        newlines = newline_D.to(read.dtype).expand(len(read), 1, -1)
        packed += [tokens_VPD[first], torch.cat([read, newlines], 1).flatten(0, 1)]
        first += tiling.num_views
    assert first == len(tokens_VPD), f"{len(tokens_VPD)} views, {first} by their tilings"
    return torch.cat(packed)
