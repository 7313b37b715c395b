"""Which tokens a region covers: at least by half, or the one that it covers most."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.train.regions import covered_tokens

fractions = st.floats(0, 1, width=32) | st.sampled_from([0.0, 0.25, 0.5, 1.0])


@given(st.lists(st.lists(fractions, min_size=5, max_size=5), min_size=1, max_size=4))
def test_every_region_by_definition(coverage: list[list[float]]) -> None:
    tensor = torch.tensor(coverage)
    half = [[value >= 0.5 for value in row] for row in coverage]
    assert covered_tokens(tensor).tolist() == half
    best = [
        row if any(row) or not max(values) else [i == values.index(max(values)) for i in range(5)]
        for row, values in zip(half, coverage, strict=True)
    ]
    assert covered_tokens(tensor, best_patch=True).tolist() == best


def test_without_regions_or_tokens_nothing_is_covered() -> None:
    for shape in ((0, 9), (2, 0, 9), (2, 3, 0)):
        for best_patch in (False, True):
            covered = covered_tokens(torch.zeros(shape), best_patch=best_patch)
            assert covered.shape == shape
            assert not covered.any()
