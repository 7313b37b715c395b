"""Boxes as NumPy arrays: formats, overlap and non-maximum suppression."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def cxcywh_to_xyxy(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """(N, 4) centre x, centre y, width, height -> (N, 4) x0, y0, x1, y1 in the same units."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=1)


def iou_matrix(a_xyxy: NDArray[np.floating], b_xyxy: NDArray[np.floating]) -> NDArray[np.floating]:
    """Intersection over union of every pair, (N, 4) × (M, 4) -> (N, M); 0/0 counts as 0."""
    # One plane per edge: an (N, M, 2) array costs several times as much.
    ax0, ay0, ax1, ay1 = (a_xyxy[:, edge, None] for edge in range(4))
    bx0, by0, bx1, by1 = (b_xyxy[None, :, edge] for edge in range(4))
    overlap = np.clip(np.minimum(ax1, bx1) - np.maximum(ax0, bx0), 0, None)
    overlap *= np.clip(np.minimum(ay1, by1) - np.maximum(ay0, by0), 0, None)
    area_a, area_b = (ax1 - ax0) * (ay1 - ay0), (bx1 - bx0) * (by1 - by0)
    union = area_a + area_b - overlap
    return np.divide(overlap, union, out=np.zeros_like(overlap), where=union != 0)


def nms(
    boxes_xyxy: NDArray[np.floating],
    scores: NDArray[np.floating],
    iou_threshold: float,
    labels: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Indices of the boxes kept by greedy non-maximum suppression, best score first.

    A box is suppressed only if its overlap with a kept one is strictly above `iou_threshold`; equal
    scores keep their input order. With `labels`, only boxes of the same label suppress each other.
    Arithmetic is done in the boxes' own dtype, as torchvision's `nms` does.
    """
    order = np.argsort(-scores, kind="stable")
    # As float64: a plain float would be rounded to the boxes' float32 before the comparison.
    overlaps = iou_matrix(boxes_xyxy, boxes_xyxy) > np.float64(iou_threshold)
    if labels is not None:
        number = {label: index for index, label in enumerate(labels)}
        numbers = np.array([number[label] for label in labels], dtype=np.int64)
        overlaps &= numbers[:, None] == numbers[None, :]
    suppressed = np.zeros(len(order), dtype=bool)
    kept: list[int] = []
    for index in order:
        if not suppressed[index]:
            kept.append(int(index))
            suppressed |= overlaps[index]
    return np.asarray(kept, dtype=np.int64)
