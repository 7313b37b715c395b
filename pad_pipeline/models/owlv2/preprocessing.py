"""How OWLv2 sees an image: padded with black to a square, smoothed, and shrunk or enlarged to fit.

The arithmetic is that of `skimage.transform.resize`, with which the model was trained and which
transformers' processor repeats by scipy: a Gaussian before shrinking, then straight lines between
pixels, both with the picture mirrored at its edges. Here it is torch's, on any device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.models.device_image import pixels_on
from pad_pipeline.models.protocols import Image
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD

_REACH = 4.0  # standard deviations at which scipy cuts a Gaussian off


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """The side of the model's square input in pixels; mean and deviation of RGB in 0–1."""

    side: int
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD


def prepare_image(image: Image, settings: Preprocessing, device: str | torch.device) -> Tensor:
    """The image as the model reads it, (3, side, side) float32 on `device`."""
    pixels = pixels_on(image, device).permute(2, 0, 1).float() / 255
    height, width = pixels.shape[1:]
    longest = max(height, width)
    square = F.pad(pixels, (0, longest - width, 0, longest - height))
    for axis in (1, 2):
        square = _resize_axis(_smooth_axis(square, axis, settings.side), axis, settings.side)
    mean, std = (
        torch.tensor(values, device=pixels.device)[:, None, None]
        for values in (settings.mean, settings.std)
    )
    return (square - mean) / std


def _smooth_axis(pixels: Tensor, axis: int, side: int) -> Tensor:
    """Smoothed along one axis by as much as shrinking it to `side` asks for."""
    sigma = max(0.0, (pixels.shape[axis] / side - 1) / 2)
    radius = int(_REACH * sigma + 0.5)
    if radius < 1:
        return pixels
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (weights / weights.sum()).float().to(pixels.device)
    rows = pixels.movedim(axis, -1)
    padded = F.pad(rows, (radius, radius), mode="reflect")
    flat = padded.reshape(-1, 1, padded.shape[-1])
    return F.conv1d(flat, kernel[None, None]).reshape(rows.shape).movedim(-1, axis)


def _resize_axis(pixels: Tensor, axis: int, side: int) -> Tensor:
    """Of another length along one axis, values between pixels' centres by straight lines."""
    length = pixels.shape[axis]
    if length == side:
        return pixels
    places = (torch.arange(side, dtype=torch.float64) + 0.5) * (length / side) - 0.5
    before = places.floor()
    share = (places - before).float().to(pixels.device)
    shape = [1, 1, 1]
    shape[axis] = side
    first, second = (
        pixels.index_select(axis, _mirrored(before.long() + step, length).to(pixels.device))
        for step in (0, 1)
    )
    return torch.lerp(first, second, share.reshape(shape))


def _mirrored(places: Tensor, length: int) -> Tensor:
    """Places beyond the edges as those that mirror them, the edge's own pixel in the middle."""
    if length == 1:
        return torch.zeros_like(places)
    turned = places.abs() % (2 * length - 2)
    return torch.where(turned < length, turned, 2 * length - 2 - turned)
