"""Overlap and non-maximum suppression against torchvision's recorded results and pycocotools."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from safetensors.numpy import load_file

from pad_pipeline.boxes import cxcywh_to_xyxy, iou_matrix, nms
from tests.golden_data import golden_dir


def boxes_strategy(max_boxes: int = 24):
    corners = hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, max_boxes), st.just(4)),
        elements=st.integers(0, 64).map(float),
    )
    return corners.map(
        lambda xywh: np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    )


def naive_nms(boxes, scores, threshold, labels=None) -> list[int]:
    """The definition, box by box in Python's own arithmetic on float32 values."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda i: (-float(scores[i]), i)):
        for other in kept:
            if labels is not None and labels[index] != labels[other]:
                continue
            a, b = boxes[index], boxes[other]
            width = max(np.float32(0), min(a[2], b[2]) - max(a[0], b[0]))
            height = max(np.float32(0), min(a[3], b[3]) - max(a[1], b[1]))
            inside = width * height
            union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inside
            if union and float(inside / union) > threshold:
                break
        else:
            kept.append(index)
    return kept


def test_nms_equals_torchvision_on_every_golden_case():
    folder = golden_dir("pipeline")
    cases = json.loads((folder / "nms_cases.json").read_text())
    arrays = load_file(folder / "nms_rle.safetensors")
    assert cases
    for number, case in enumerate(cases):
        kept = nms(
            arrays[f"nms{number}.boxes"], arrays[f"nms{number}.scores"], case["iou_threshold"]
        )
        assert kept.tolist() == arrays[f"nms{number}.keep"].tolist(), case["note"]


@settings(max_examples=60, deadline=None)
@given(boxes_strategy(), st.data())
def test_nms_equals_the_definition(boxes, data):
    scores = np.array(
        data.draw(
            st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=len(boxes), max_size=len(boxes))
        ),
        dtype=np.float32,
    )
    labels = data.draw(st.lists(st.sampled_from("ab"), min_size=len(boxes), max_size=len(boxes)))
    threshold = data.draw(st.sampled_from([0.0, 0.3, 0.5, 1.0]))
    assert nms(boxes, scores, threshold).tolist() == naive_nms(boxes, scores, threshold)
    assert nms(boxes, scores, threshold, labels).tolist() == naive_nms(
        boxes, scores, threshold, labels
    )


def test_threshold_is_not_rounded_to_the_boxes_float32():
    """An overlap of 3/10 is 0.30000001 in float32, which is above 0.3, as in torchvision."""
    boxes = np.array([[0, 0, 10, 1], [0, 0, 3, 1]], dtype=np.float32)
    assert float(iou_matrix(boxes, boxes)[0, 1]) > 0.3
    assert nms(boxes, np.array([0.9, 0.8], dtype=np.float32), 0.3).tolist() == [0]


@settings(max_examples=60, deadline=None)
@given(boxes_strategy(), boxes_strategy())
def test_iou_equals_pycocotools(a, b):
    ours = iou_matrix(a.astype(np.float64), b.astype(np.float64))
    assert ours.shape == (len(a), len(b))
    if not len(a) or not len(b):
        return
    a_xywh, b_xywh = (np.c_[x[:, :2], x[:, 2:] - x[:, :2]].astype(np.float64) for x in (a, b))
    theirs = coco_mask.iou(a_xywh, b_xywh, [0] * len(b))
    positive = (a_xywh[:, 2:].prod(1)[:, None] + b_xywh[:, 2:].prod(1)[None, :]) > 0
    np.testing.assert_allclose(ours[positive], theirs[positive], atol=1e-12)
    assert (ours[~positive] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_centre_boxes_become_corners_in_their_dtype(dtype):
    corners = cxcywh_to_xyxy(np.array([[5, 6, 4, 2], [0, 0, 0, 0]], dtype=dtype))
    assert corners.dtype == dtype
    assert corners.tolist() == [[3, 5, 7, 7], [0, 0, 0, 0]]


def test_nms_of_all_queries_of_an_image_is_quick():
    random = np.random.default_rng(0)
    corners = random.random((900, 4), dtype=np.float32) * 300
    boxes = np.concatenate([corners[:, :2], corners[:, :2] + corners[:, 2:]], axis=1)
    scores = random.random(900, dtype=np.float32)
    nms(boxes, scores, 0.5)
    start = time.process_time()
    nms(boxes, scores, 0.5)
    assert time.process_time() - start < 0.1  # about 4 ms
