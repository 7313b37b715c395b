"""From a segmenter's low-resolution logits to run-length strings, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.geometry import ImageGeometry
from pad_pipeline.masks import encode_changes


def upsample(low_res_NMHW: Tensor, frame: ImageGeometry, *, padded: bool) -> Tensor:
    """Logits (N, M, h, w) -> float32 logits (N, M, height, width) at the image's own size.

    Bilinear without antialiasing. With `padded`, by way of the model's whole frame, of which the
    content shows the image (SAM); without, in one step (SAM 2).
    """
    logits = low_res_NMHW.float()
    if padded:
        width, height = frame.content
        logits = F.interpolate(logits, frame.frame[::-1], mode="bilinear", align_corners=False)
        logits = logits[..., :height, :width]
    return F.interpolate(logits, frame.size[::-1], mode="bilinear", align_corners=False)


def encode_logits(
    low_res_NMHW: Tensor,
    frame: ImageGeometry,
    *,
    padded: bool,
    max_pixels: int,
    threshold: float,
) -> Iterator[tuple[str, int]]:
    """The COCO compressed `counts` and the area in pixels of the first mask of each row.

    A pixel belongs to the mask where its logit at original size is strictly above `threshold`. At
    most `max_pixels` pixels (but always one mask) are upsampled at once.
    """
    largest = max(
        width * height for width, height in (frame.size, frame.frame if padded else (0, 0))
    )
    for logits_NMHW in low_res_NMHW.split(max(1, max_pixels // largest)):
        full = upsample(logits_NMHW, frame, padded=padded)
        yield from encode_masks((full > threshold)[:, 0])


def encode_masks(masks_NHW: Tensor) -> list[tuple[str, int]]:
    """Bool masks (N, H, W) on any device -> COCO compressed `counts` and area in pixels of each.

    The pixels stay where they are: only the places where a column-major mask changes are copied
    to the CPU, some kilobytes in place of a megabyte.
    """
    num, height, width = masks_NHW.shape
    flat = masks_NHW.transpose(1, 2).reshape(num, height * width)
    places = torch.nonzero(flat[:, 1:] != flat[:, :-1]).cpu().numpy()
    first_pixel_set = flat[:, 0].cpu().numpy()
    changes = np.split(places[:, 1] + 1, np.searchsorted(places[:, 0], np.arange(1, num)))
    return [
        encode_changes(np.insert(change, 0, 0) if first else change, height, width)
        for change, first in zip(changes, first_pixel_set, strict=True)
    ]
