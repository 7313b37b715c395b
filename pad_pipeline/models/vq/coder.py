"""Images to grids of VQ indices and back, by whichever VQ model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Image

Indices = NDArray[np.int64]
"""(h, w), one index a code, row-major from the upper left."""


class Codec(Protocol):
    """What a VQ model does with tensors; pixels lie between 0 and 1."""

    factor: int
    num_codes: int

    def to(self, device: str, dtype: torch.dtype) -> object:
        """Move the weights."""
        ...

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, H / factor, W / factor) int64."""
        ...

    def pixels(self, indices_Nhw: Tensor) -> Tensor:
        """(N, 3, H, W); raises `UserError` where the model has no decoder."""
        ...


class ImageCoder:
    """A VQ model on its device. A call is one pass: callers make the batches."""

    def __init__(self, codec: Codec, runtime: Runtime, name: str) -> None:
        codec.to(runtime.device, runtime.torch_dtype)
        self._codec, self._runtime, self._name = codec, runtime, name
        self.factor = codec.factor
        """Pixels along each side of a code."""
        self.num_codes = codec.num_codes
        """Size of the codebook."""

    @torch.inference_mode()
    def encode(self, images: Sequence[Image]) -> list[Indices]:
        """The indices of images of one size, (H / factor, W / factor) each.

        Raises `UserError` where the factor does not divide their sides, or a side is less.
        """
        height, width = images[0].shape[:2]
        check_sides(height, width, self.factor, self._name)
        pixels = torch.from_numpy(np.stack(images)).to(self._runtime.device)
        pixels = pixels.permute(0, 3, 1, 2).to(self._runtime.torch_dtype) / 255
        return list(self._codec.indices(pixels).cpu().numpy().astype(np.int64))

    @torch.inference_mode()
    def decode(self, indices: Sequence[Indices]) -> list[Image]:
        """The images of grids of one size, HWC uint8.

        Raises `UserError` for indices past the codebook, and where the model has no decoder.
        """
        grids = np.stack(indices)
        check_indices(grids, self.num_codes, self._name)
        pixels = self._codec.pixels(torch.from_numpy(grids).to(self._runtime.device))
        pixels = (pixels.float().clamp(0, 1) * 255).round().to(torch.uint8)
        return list(pixels.permute(0, 2, 3, 1).cpu().numpy())


def check_sides(height: int, width: int, factor: int, name: str) -> None:
    """Raise `UserError` where a code of `factor` pixels does not divide both sides."""
    if min(height, width) < factor:
        raise UserError(
            f"{width}x{height} pixels are smaller than a code of {name}, which covers "
            f"{factor}x{factor}; take a larger image or region"
        )
    if height % factor or width % factor:
        raise UserError(
            f"{width}x{height} pixels cannot be divided into codes of {name}, each "
            f"{factor}x{factor}; take sides that are multiples of {factor}"
        )


def check_indices(indices: Indices, num_codes: int, name: str) -> None:
    """Raise `UserError` where an index is none of a codebook of `num_codes`."""
    wrong = indices[(indices < 0) | (indices >= num_codes)]
    if len(wrong):
        raise UserError(
            f"{int(wrong[0])} is no index of {name}, whose codebook has {num_codes:,} codes from "
            "0; the indices are from another model"
        )
