"""Packs: every sample once, none too long, the same every time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.train.data.packing import pack


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 200))
def test_every_sample_is_in_one_pack_that_holds_it(lengths: list[int], capacity: int) -> None:
    packs = pack(lengths, capacity)
    assert sorted(index for each in packs for index in each) == list(range(len(lengths)))
    totals = [sum(lengths[index] for index in each) for each in packs]
    assert all(total <= capacity for total in totals)
    assert len(packs) <= 11 / 9 * max(
        1, -(-sum(lengths) // (capacity - max(lengths, default=0) + 1))
    )
    assert packs == sorted(sorted(each) for each in packs) == pack(lengths, capacity)


def test_long_samples_take_the_short_ones_that_fit_behind_them() -> None:
    assert pack([3, 9, 1, 7, 3], 10) == [[0, 3], [1, 2], [4]]
    assert pack([], 10) == []
