"""Masks measured in bulk against the same measures taken from their pixels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pad_pipeline import masks
from pad_pipeline.dataset.mask_checks import GROWN_BY, measure_masks

any_mask = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))
edge = st.floats(-4, 16, width=32)


def slow_inside(mask: np.ndarray, box: tuple[float, float, float, float]) -> int:
    x0, y0, x1, y1 = box
    dx, dy = GROWN_BY * (x1 - x0), GROWN_BY * (y1 - y0)
    return sum(
        bool(mask[y, x])
        for y in range(mask.shape[0])
        for x in range(mask.shape[1])
        if x + 1 > x0 - dx and x < x1 + dx and y + 1 > y0 - dy and y < y1 + dy
    )


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(any_mask, st.tuples(edge, edge, edge, edge)), max_size=5))
def test_measures_equal_those_of_the_pixels(group):
    boxes = [(min(a, c), min(b, d), max(a, c) + 0.1, max(b, d) + 0.1) for _, (a, b, c, d) in group]
    found = measure_masks(
        pa.array([masks.encode(mask) for mask, _ in group], pa.string()),
        np.array([mask.shape[0] for mask, _ in group], dtype=np.int64),
        np.array([mask.shape[1] for mask, _ in group], dtype=np.int64),
        np.array(boxes, dtype=np.float64).reshape(-1, 4),
    )
    assert not found.faults.any()
    assert found.covered.tolist() == [mask.size for mask, _ in group]
    assert found.area.tolist() == [int(mask.sum()) for mask, _ in group]
    assert found.inside.tolist() == [
        slow_inside(mask, box) for (mask, _), box in zip(group, boxes, strict=True)
    ]


def test_a_faulty_mask_and_a_box_of_nan_disturb_no_other():
    mask = np.eye(6, dtype=bool)
    strings = [
        masks.encode(mask),
        "PPPPPP_oooooooooooO",
        masks.encode(mask),
        "",
        masks.encode(mask),
    ]
    boxes = np.array([[0, 0, 6, 6], [0, 0, 6, 6], [0, 0, 3, 3], [0, 0, 1, 1], [np.nan] * 4])
    sides = np.full(5, 6)
    found = measure_masks(pa.array(strings).slice(0), sides, sides, boxes)
    assert (found.faults > 0).tolist() == [False, True, False, False, False]
    assert found.covered.tolist() == [36, 0, 36, 0, 36]
    assert found.inside.tolist() == [6, 0, 4, 0, 0]


def test_a_slice_of_an_arrow_column_is_measured_as_itself():
    group = [np.zeros((4, 4), bool), np.ones((4, 4), bool), np.eye(4, dtype=bool)]
    column = pa.array([masks.encode(mask) for mask in group]).slice(1, 2)
    sides = np.full(2, 4)
    assert measure_masks(column, sides, sides, np.zeros((2, 4))).area.tolist() == [16, 4]
