"""Labels are placed whole, inside the picture and off each other."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline.drawing.label_places import place_labels

boxes = st.tuples(*[st.floats(0, 300)] * 4).map(
    lambda v: (min(v[0], v[2]), min(v[1], v[3]), max(v[0], v[2]), max(v[1], v[3]))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(boxes, st.floats(10, 300), st.floats(8, 30)), max_size=8))
def test_labels_are_never_clipped(things):
    sizes = [(w, h) for _, w, h in things]
    placed = place_labels([box for box, _, _ in things], sizes, 300, 300)
    for (x0, y0, x1, y1), (w, h) in zip(placed, sizes, strict=True):
        assert x0 >= 0
        assert y0 >= 0
        assert x1 <= 300 + 1e-6
        assert y1 <= 300 + 1e-6
        assert (x1 - x0, y1 - y0) == (pytest.approx(w), pytest.approx(h))


@pytest.mark.parametrize(
    "things",
    [
        [(40.0, 40.0, 200.0, 200.0)] * 6,
        [(0.0, 0.0, 300.0, 300.0)] * 8,
        [(10.0 * i, 10.0 * i, 100.0 + 10 * i, 90.0 + 10 * i) for i in range(8)],
        [(0.0, 280.0, 40.0, 300.0), (10.0, 285.0, 50.0, 300.0), (260.0, 0.0, 300.0, 20.0)],
    ],
)
def test_labels_do_not_lie_on_each_other_where_there_is_room(things):
    placed = place_labels(things, [(80.0, 18.0)] * len(things), 300, 300)
    for a, b in combinations(placed, 2):
        assert a[0] >= b[2] or b[0] >= a[2] or a[1] >= b[3] or b[1] >= a[3], (a, b)
