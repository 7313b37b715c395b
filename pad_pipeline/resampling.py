"""Pillow's resampling of 8-bit images: its filters and the whole-number weights of their taps."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Filter = Literal["bilinear", "bicubic"]
"""Both widen their support when they shrink (antialiasing)."""

PILLOW_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}

WEIGHT_BITS = 22
"""Weights are whole numbers with this many bits after the binary point."""


def tap_weights(
    old: int, new: int, filter: Filter, *, start: int = 0, count: int | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """First old pixel (count,) and weights (count, taps) of each new pixel along one axis.

    `old` and `new` are the axis's sizes in pixels; new pixels are `start` to `start + count`, by
    default all. The arithmetic of Pillow's `ImagingResample`: the filter stretched by old / new
    where that is more than 1, its weights scaled to a sum of 1 and rounded to `WEIGHT_BITS`. Taps
    beyond the last old pixel have weight 0.
    """
    scale = old / new
    stretch = max(scale, 1.0)
    kernel, support = _KERNELS[filter]
    centre = (start + np.arange(new if count is None else count) + 0.5) * scale
    reach = support * stretch
    first = np.maximum((centre - reach + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + reach + 0.5).astype(np.int64), old)
    taps = first[:, None] + np.arange((last - first).max())
    weights = kernel(np.abs((taps - centre[:, None] + 0.5) * (1.0 / stretch)))
    weights[taps >= last[:, None]] = 0
    # summed one after the other, as Pillow does: NumPy's own sum rounds differently
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]
    rounded = np.trunc(weights * (1 << WEIGHT_BITS) + np.copysign(0.5, weights))
    return first, rounded.astype(np.int32)


def _triangle(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(1.0 - x, 0.0)


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic convolution with a = -0.5."""
    a = -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


_KERNELS = {"bilinear": (_triangle, 1.0), "bicubic": (_cubic, 2.0)}
"""Each filter as a function of the distance, and how far it reaches, both in pixels."""
