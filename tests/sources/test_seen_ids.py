"""A compact set behaves as a set."""

from __future__ import annotations

from pad_pipeline.sources.seen_ids import SeenIds


def test_it_is_a_set_that_grows() -> None:
    seen, ids = SeenIds(), [f"{n % 30_000:09d}.jpg" for n in range(50_000)]
    assert [seen.add(name) for name in ids] == [n < 30_000 for n in range(50_000)]
    assert len(seen._table) * 8 <= 16 * 40_000 * 2
