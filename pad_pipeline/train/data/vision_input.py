"""What a vision tower takes: the size of its images, their normalisation, its grid of patches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionInput:
    """What the vision tower takes: square images of `size` pixels in `grid` × `grid` patches."""

    size: int
    grid: int
    num_tokens: int
    """Tokens per image behind the projector."""
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    covered: int | None = None
    """Pixels along a side that the patches cover, from the first on; all of them unless given."""

    def normalise(self, frames: Sequence[NDArray[np.uint8]]) -> Tensor:
        """(I, 3, size, size) float32: what the tower takes of HWC uint8 frames."""
        if not frames:
            return torch.zeros(0, 3, self.size, self.size)
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return ((pixels - mean) / std).contiguous()
