"""Resizing of 8-bit images as the reference pipelines do it, by Pillow or on the GPU."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
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

    On a CUDA device torch resizes, elsewhere Pillow, with the same result bit for bit.
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
    """`resize_uint8` by torch on `device`, in Pillow's whole numbers: bit for bit the same."""
    old_height, old_width = image.shape[:2]
    # the uint8 array travels to the device, not a copy of larger numbers
    pixels = torch.tensor(np.ascontiguousarray(image), device=device).permute(2, 0, 1)
    # Every pass rounds, so their order shows. This is the order of Pillow 13, found by comparing
    # its results with those of single passes.
    if height < old_height and old_height - height > 2 * (old_width - width):
        return _resize_rows(_resize_columns(pixels, height, filter), width, filter)
    return _resize_columns(_resize_rows(pixels, width, filter), height, filter)


def _resize_rows(pixels: Tensor, width: int, filter: Filter) -> Tensor:
    """(3, H, W) uint8 with rows of another length."""
    if pixels.shape[2] == width:
        return pixels
    device = pixels.device
    places, weights = _taps(pixels.shape[2], width, filter, device)
    half = 1 << (_FRACTION_BITS - 1)
    sums = torch.full((*pixels.shape[:2], width), half, dtype=torch.int32, device=device)
    at_once = max(1, _MAX_PRODUCTS // sums.numel())
    for some, of_some in zip(places.split(at_once), weights.split(at_once), strict=True):
        sums += (pixels[:, :, some] * of_some).sum(2, dtype=torch.int32)
    return (sums >> _FRACTION_BITS).clamp_(0, 255).to(torch.uint8)


def _resize_columns(pixels: Tensor, height: int, filter: Filter) -> Tensor:
    return _resize_rows(pixels.transpose(1, 2), height, filter).transpose(1, 2)


@lru_cache(maxsize=256)
def _taps(old: int, new: int, filter: Filter, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixels that each new one is made of, (taps, new) int64, and their int32 weights.

    Pillow's: the filter stretched by old / new where that is more than 1, its weights scaled to a
    sum of 1 and rounded to 22 bits after the point. Missing taps have weight 0.
    """
    kernel, reach = _KERNELS[filter]
    stretch = max(old / new, 1.0)
    support = reach * stretch
    taps = int(np.ceil(support)) * 2 + 1
    centres = (np.arange(new) + 0.5) * (old / new)
    first = np.maximum((centres - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centres + support + 0.5).astype(np.int64), old)
    places = first + np.arange(taps)[:, None]
    weights = kernel((places - centres + 0.5) * (1.0 / stretch))
    weights = np.where(places < last, weights, 0.0)
    weights = weights / np.cumsum(weights, axis=0)[-1]
    rounded = np.trunc(weights * (1 << _FRACTION_BITS) + np.copysign(0.5, weights))
    tables = np.minimum(places, old - 1), rounded.astype(np.int32)
    places_KN, weights_KN = (torch.from_numpy(table).to(device) for table in tables)
    return places_KN, weights_KN


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - np.abs(x), 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5."""
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
"""Each filter and how far it reaches, in pixels."""

_FRACTION_BITS = 22
_MAX_PRODUCTS = 2**24
"""What is multiplied at once, so that a photo of many megapixels takes 64 MB and not gigabytes."""
