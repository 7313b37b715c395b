"""Embeddings of images and of the regions in them, from one pass of an image encoder.

Shape suffixes: B images, P patches (row-major, grid²), R regions, E width of the embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.geometry import squash
from pad_pipeline.models.protocols import Image

Encode = Callable[[Sequence[Image]], tuple[Tensor, Tensor]]
"""Images as they are to what stands for each whole, (B, E), and for its patches, (B, P, E)."""


@dataclass(frozen=True, slots=True)
class Embedding:
    """One image's features, float32 of length 1; a region without a pixel has a row of NaN."""

    image_E: NDArray[np.float32]
    regions_RE: NDArray[np.float32]


@dataclass(frozen=True)
class PatchEmbedder:
    """An image encoder whose patches live in the same space as the whole image.

    The encoder sees images squashed to a square, of which each patch is one cell of a `grid` ×
    `grid` raster. A region's embedding is the mean of the patches, weighted by the share of each
    that its mask covers: one pass gives an image and all its regions.
    """

    encode: Encode
    width: int
    grid: int

    @torch.inference_mode()
    def embed(
        self, images: Sequence[Image], masks: Sequence[Sequence[NDArray[np.bool_]]]
    ) -> list[Embedding]:
        """The embeddings of images (HWC uint8 RGB) and of the (H, W) masks of their regions."""
        if not images:
            return []
        whole_BE, patches_BPE = self.encode(images)
        whole = torch.nn.functional.normalize(whole_BE.float(), dim=-1).cpu().numpy()
        return [
            Embedding(row, self._pool(patches_PE, image.shape, of_image))
            for row, patches_PE, image, of_image in zip(
                whole, patches_BPE.float(), images, masks, strict=True
            )
        ]

    def _pool(
        self, patches_PE: Tensor, shape: tuple[int, ...], masks: Sequence[NDArray[np.bool_]]
    ) -> NDArray[np.float32]:
        if not masks:
            return np.zeros((0, self.width), np.float32)
        geometry = squash(shape[1], shape[0], self.grid)
        shares_RP = torch.from_numpy(geometry.coverage_many(masks, self.grid).astype(np.float32))
        pooled_RE = shares_RP.to(patches_PE.device) @ patches_PE
        length = pooled_RE.norm(dim=-1, keepdim=True)
        return (pooled_RE / length).cpu().numpy()  # 0 / 0 is the NaN of an empty mask
