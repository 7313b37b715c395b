"""Decoded images that travel to a GPU once, however many models read them there."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class DeviceImage(np.ndarray):
    """HWC uint8 RGB pixels that keep their copy on a device for as long as they live.

    Made by `pixels.view(DeviceImage)`. Views and results of arithmetic are arrays of their own,
    without the copy. The copy belongs to the stream on which it was made: an image stays with one
    thread and its stream.
    """

    _copy: Tensor | None = None

    def on_device(self, device: torch.device) -> Tensor:
        """The pixels on `device`, (H, W, 3) uint8, uploaded by the first call."""
        if self._copy is None or self._copy.device != device:
            self._copy = upload(self, device)
        return self._copy


def pixels_on(image: NDArray[np.uint8], device: str | torch.device) -> Tensor:
    """The pixels of an image on `device`, (H, W, 3) uint8; a `DeviceImage` keeps them there."""
    device = resolved(device)
    return image.on_device(device) if isinstance(image, DeviceImage) else upload(image, device)


def upload(values: NDArray, device: torch.device) -> Tensor:
    """A copy of `values` on `device`.

    To a GPU it travels from pinned memory on the current stream, and this process does not wait.
    """
    on_gpu = device.type == "cuda"
    dtype = torch.from_numpy(np.empty(0, values.dtype)).dtype
    staged = torch.empty(values.shape, dtype=dtype, pin_memory=on_gpu)
    np.copyto(staged.numpy(), values)
    return staged.to(device, non_blocking=True)


def resolved(device: str | torch.device) -> torch.device:
    """`device` with its number, as tensors name it: `cuda` is the current GPU."""
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
