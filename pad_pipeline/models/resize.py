"""Resizing of 8-bit images as the reference pipelines do it, by Pillow or on the GPU."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

Filter = Literal["bilinear", "bicubic"]
"""Both widen their support when they shrink (antialiasing)."""

_PILLOW = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resize_uint8(
    image: NDArray[np.uint8],
    height: int,
    width: int,
    filter: Filter = "bicubic",
    device: str | torch.device = "cpu",
) -> Tensor:
    """`image` (HWC uint8 RGB) at another size, as a (3, height, width) uint8 tensor on `device`.

    On a CUDA device torch resizes, elsewhere Pillow; they agree within one grey level.
    """
    if torch.device(device).type == "cuda":
        return resize_with_torch(image, height, width, filter, device)
    return resize_with_pillow(image, height, width, filter).to(device)


def resize_with_pillow(
    image: NDArray[np.uint8], height: int, width: int, filter: Filter = "bicubic"
) -> Tensor:
    """`resize_uint8` by Pillow, on the CPU: bit for bit what the reference pipelines make."""
    resized = np.asarray(Image.fromarray(image).resize((width, height), _PILLOW[filter]))
    return torch.from_numpy(resized.transpose(2, 0, 1).copy())


def resize_with_torch(
    image: NDArray[np.uint8],
    height: int,
    width: int,
    filter: Filter = "bicubic",
    device: str | torch.device = "cpu",
) -> Tensor:
    """`resize_uint8` by torch's antialiased interpolation, in float32 on `device`."""
    old_height, old_width = image.shape[:2]
    # the uint8 array travels to the device, not its float32 copy, which is four times larger
    pixels = torch.tensor(np.ascontiguousarray(image), device=device).permute(2, 0, 1)[None].float()
    # Which pass comes first shows where overshoots are cut off. This is the order of Pillow 13,
    # found by comparing its results with those of single passes.
    if height < old_height and old_height - height > 2 * (old_width - width):
        pixels = _resize_rows(_resize_columns(pixels, height, filter), width, filter)
    else:
        pixels = _resize_columns(_resize_rows(pixels, width, filter), height, filter)
    return pixels[0].to(torch.uint8)


def _resize_rows(pixels: Tensor, width: int, filter: Filter) -> Tensor:
    """(1, 3, H, W) with rows of another length, rounded to 8 bits as Pillow does in each pass."""
    if pixels.shape[3] == width:
        return pixels
    size = (pixels.shape[2], width)
    resized = F.interpolate(pixels.contiguous(), size=size, mode=filter, antialias=True)
    return resized.add_(0.5).floor_().clamp_(0, 255)


def _resize_columns(pixels: Tensor, height: int, filter: Filter) -> Tensor:
    # transposed, because torch 2.13 resizes the columns of an image that is one pixel wide wrongly
    return _resize_rows(pixels.transpose(2, 3), height, filter).transpose(2, 3)
