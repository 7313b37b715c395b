"""Where the vision tokens of Grounding DINO lie in their images: what no pixel changes.

Legend of the shape suffixes: B images, or 1 where all are alike, L levels, S tokens of all levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.models.device_image import upload
from pad_pipeline.models.grounding_dino.deformable_attention import Levels
from pad_pipeline.models.grounding_dino.network import Network
from pad_pipeline.models.grounding_dino.preprocessing import Size


@dataclass(frozen=True, slots=True)
class Places:
    """The places of the tokens of images of one size after padding, one row if none is padded.

    `positions` BSD are what attention adds; `centres` (B, S, 1 or L, 2) the middle of every token
    in 0–1 of each level's map; `proposals` BS4 a box around it as logits, and `outside` BS1 holds
    where there is none, as it would leave the image or the token is padding. `padding` is BS and
    `scale` (B, 1, L, 4) the share of the map's width and height, twice, that is image; both are
    None without padding.
    """

    levels: Levels
    positions: Tensor
    centres: Tensor
    proposals: Tensor
    outside: Tensor
    padding: Tensor | None
    scale: Tensor | None

    def rows(self, index: Tensor) -> Places:
        """The places of each row; `index` (R,) may repeat."""
        if self.padding is None or self.scale is None:
            return self
        positions, centres, proposals, outside, padding, scale = (
            part.index_select(0, index)
            for part in (
                self.positions,
                self.centres,
                self.proposals,
                self.outside,
                self.padding,
                self.scale,
            )
        )
        return Places(self.levels, positions, centres, proposals, outside, padding, scale)


def find_places(
    network: Network, canvas: Size, shapes: Sequence[Size], sizes: Sequence[Size] | None
) -> Places:
    """The places on maps of these `shapes` of images that fill `sizes` of the `canvas` in pixels.

    Without `sizes` every image fills it, and the places are kept for the next pass.
    """
    if sizes is None:
        whole = np.array(shapes, np.float32)[None]
        return network.places.get(tuple(shapes), lambda: _places(network, shapes, whole))
    filled = [
        [
            tuple(_filled(size[axis], canvas[axis], shape[axis]) for axis in (0, 1))
            for shape in shapes
        ]
        for size in sizes
    ]
    return _places(network, shapes, np.array(filled, np.float32))


@lru_cache(maxsize=4096)
def _filled(pixels: int, canvas: int, tokens: int) -> int:
    """How many of a line's tokens are image where `pixels` of the `canvas` are.

    The original shrinks the mask of the pixels by interpolation to the nearest.
    """
    line = (torch.arange(canvas) < pixels).float()
    return int(F.interpolate(line[None, None], size=tokens)[0, 0].sum())


def _places(network: Network, shapes: Sequence[Size], filled: np.ndarray) -> Places:
    """Of maps of which (B, L, 2) rows and columns are image."""
    device, dtype = network.device, network.dtype
    levels = Levels.of(shapes, device)
    # of every token: its level and its column and row on that level's map, from 1
    level = np.repeat(np.arange(len(shapes)), [height * width for height, width in shapes])
    cell = np.concatenate(
        [np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2) for h, w in shapes]
    )
    level = upload(level, device)
    cell = upload((cell + 1).astype(np.float32), device)
    counts = upload(np.ascontiguousarray(filled[..., ::-1]), device)  # columns and rows, BL2
    padded = bool((filled != np.array(shapes)).any())
    kept = counts.index_select(1, level)  # BS2

    inside = cell <= kept
    share = torch.minimum(cell, kept) / (kept + 1e-6)
    # a token beyond the last row has no column of the original's either, and the other way round
    share = torch.where(inside.flip(-1), share, 0.0)
    positions = network.map_sines(share.flip(-1)) + network.module.model.level_embed[level].float()

    valid = counts / levels.sizes  # BL2
    centre = (cell - 0.5) / kept
    side = 0.05 * torch.exp2(level.float())[:, None].expand(len(counts), -1, 2)
    boxes = torch.cat([centre, side], -1)
    padding = ~inside.all(-1) if padded else None
    outside = ~((boxes > 0.01) & (boxes < 0.99)).all(-1, keepdim=True)
    if padding is not None:
        outside = outside | padding[..., None]
    proposals = (boxes / (1 - boxes)).log().masked_fill(outside, math.inf)
    return Places(
        levels,
        positions.to(dtype),
        centre[:, :, None] * valid[:, None] if padded else centre[:, :, None],
        proposals,
        outside,
        padding,
        torch.cat([valid, valid], -1)[:, None] if padded else None,
    )
