"""From a segmenter's low-resolution logits to run-length strings, a bounded number at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor


def upsample(
    low_res_NMHW: Tensor,
    padded: tuple[int, int] | None,
    content: tuple[int, int],
    original: tuple[int, int],
) -> Tensor:
    """Logits (N, M, h, w) -> float32 logits (N, M, *original), bilinear without antialiasing.

    With `padded`, by way of the model's whole input of that (height, width), of which the top left
    `content` shows the image (SAM); without, in one step (SAM 2).
    """
    logits = low_res_NMHW.float()
    if padded is not None:
        logits = F.interpolate(logits, padded, mode="bilinear", align_corners=False)
        logits = logits[..., : content[0], : content[1]]
    return F.interpolate(logits, original, mode="bilinear", align_corners=False)


def encode_logits(
    low_res_NMHW: Tensor,
    padded: tuple[int, int] | None,
    content: tuple[int, int],
    original: tuple[int, int],
    *,
    max_pixels: int,
    threshold: float,
) -> Iterator[tuple[str, int]]:
    """The COCO compressed `counts` and the area in pixels of the first mask of each row.

    A pixel belongs to the mask where its logit at original size is strictly above `threshold`. At
    most `max_pixels` pixels (but always one mask) are upsampled at once.
    """
    height, width = padded or (0, 0)
    at_once = max(1, max_pixels // max(height * width, original[0] * original[1]))
    for logits_NMHW in low_res_NMHW.split(at_once):
        full = upsample(logits_NMHW, padded, content, original)
        yield from encode((full > threshold)[:, 0])


def encode(masks_NHW: Tensor) -> list[tuple[str, int]]:
    """Bool masks (N, H, W) on any device -> COCO compressed `counts` and area in pixels of each.

    The pixels stay where they are: only the places where a column-major mask changes are copied
    to the CPU, some kilobytes in place of a megabyte.
    """
    num, height, width = masks_NHW.shape
    flat = masks_NHW.transpose(1, 2).reshape(num, height * width)
    places = torch.nonzero(flat[:, 1:] != flat[:, :-1]).cpu().numpy()
    begins_inside = flat[:, 0].cpu().numpy()
    changes = np.split(places[:, 1] + 1, np.searchsorted(places[:, 0], np.arange(1, num)))
    return [
        _compress(change, bool(inside), height, width)
        for change, inside in zip(changes, begins_inside, strict=True)
    ]


def _compress(
    changes: NDArray[np.int64], begins_inside: bool, height: int, width: int
) -> tuple[str, int]:
    """Runs that begin at pixel 0 and at `changes`, zeros first as COCO wants them."""
    runs = np.diff(changes, prepend=0, append=height * width)
    if begins_inside:
        runs = np.concatenate([[0], runs])
    rle: Any = {"counts": runs, "size": [height, width]}
    compressed = coco_mask.frPyObjects(rle, height, width)
    return compressed["counts"].decode("ascii"), int(runs[1::2].sum())
