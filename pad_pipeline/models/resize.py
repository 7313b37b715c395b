"""Resizing of 8-bit images as the reference pipelines do it, by Pillow or on the GPU."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.device_image import pixels_on, upload
from pad_pipeline.resampling import PILLOW_FILTERS, WEIGHT_BITS, Filter, tap_weights

_TAPS: Constants[tuple[Tensor, Tensor]] = Constants(2**26)
"""By the old length, the new one, filter and device; 5,000 pixels to 1,000 take 0.2 MB."""

_MAX_PRODUCTS = 2**24
"""What is multiplied at once, so that a photo of many megapixels takes 64 MB and not gigabytes."""


def resize_uint8(
    image: NDArray[np.uint8],
    height: int,
    width: int,
    filter: Filter = "bicubic",
    device: str | torch.device = "cpu",
) -> Tensor:
    """`image` (HWC uint8 RGB) at another size, as a (3, height, width) uint8 tensor on `device`.

    On a CUDA device torch resizes, elsewhere Pillow, with the same result bit for bit. A
    `DeviceImage` is uploaded once, for all sizes and models.
    """
    if resizes_on(device):
        return resize_with_torch(image, height, width, filter, device)
    return resize_with_pillow(image, height, width, filter).to(device)


def resizes_on(device: str | torch.device) -> bool:
    """Whether images are resized on this device, and so have to be uploaded."""
    return torch.device(device).type == "cuda"


def resize_with_pillow(
    image: NDArray[np.uint8], height: int, width: int, filter: Filter = "bicubic"
) -> Tensor:
    """`resize_uint8` by Pillow, on the CPU: bit for bit what the reference pipelines make."""
    resized = np.asarray(Image.fromarray(image).resize((width, height), PILLOW_FILTERS[filter]))
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
    pixels = pixels_on(image, device).permute(2, 0, 1)
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
    old = pixels.shape[2]
    key = old, width, filter, device
    places, weights = _TAPS.get(key, lambda: _taps(old, width, filter, device))
    half = 1 << (WEIGHT_BITS - 1)
    sums = torch.full((*pixels.shape[:2], width), half, dtype=torch.int32, device=device)
    at_once = max(1, _MAX_PRODUCTS // sums.numel())
    for some, of_some in zip(places.split(at_once), weights.split(at_once), strict=True):
        sums += (pixels[:, :, some] * of_some).sum(2, dtype=torch.int32)
    return (sums >> WEIGHT_BITS).clamp_(0, 255).to(torch.uint8)


def _resize_columns(pixels: Tensor, height: int, filter: Filter) -> Tensor:
    return _resize_rows(pixels.transpose(1, 2), height, filter).transpose(1, 2)


def _taps(old: int, new: int, filter: Filter, device: torch.device) -> tuple[Tensor, Tensor]:
    """The pixels that each new one is made of, (taps, new) int64, and their int32 weights."""
    first, weights = tap_weights(old, new, filter)
    places = np.minimum(first[:, None] + np.arange(weights.shape[1]), old - 1)
    places_KN, weights_KN = (upload(table.T, device) for table in (places, weights))
    return places_KN, weights_KN
