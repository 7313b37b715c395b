"""One bad item never takes its neighbours along."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.engine.guard import MAX_MESSAGE, describe, run_guarded
from pad_pipeline.records import RecordError


@given(st.integers(0, 40), st.sets(st.integers(0, 39)))
def test_exactly_the_bad_items_get_errors_in_place(count: int, bad: set[int]) -> None:
    def work(items):
        if bad & set(items):
            raise ValueError(f"bad items in {items}")
        return [item * 10 for item in items]

    results = run_guarded(work, list(range(count)), "tag")
    assert len(results) == count
    for item, result in enumerate(results):
        if item in bad:
            assert result == RecordError("tag", "ValueError", f"bad items in [{item}]")
        else:
            assert result == item * 10


def test_the_number_of_calls_for_one_bad_item_is_logarithmic() -> None:
    calls = []

    def work(items):
        calls.append(len(items))
        if 13 in items:
            raise ValueError("13")
        return items

    run_guarded(work, list(range(64)), "tag")
    assert len(calls) == 1 + 2 * 6


def test_out_of_memory_halves_until_it_fits_and_frees_memory_first(caplog) -> None:
    freed = []

    def work(items):
        if len(items) > 3:
            raise RuntimeError("CUDA error: out of memory")
        return items

    assert run_guarded(work, list(range(8)), "segment", lambda: freed.append(1)) == list(range(8))
    assert len(freed) == 3
    assert "out of memory with a batch of 8 images" in caplog.text


def test_an_item_that_never_fits_is_an_error() -> None:
    def work(items):
        raise MemoryError

    [result] = run_guarded(work, ["x"], "segment")
    assert result == RecordError("segment", "MemoryError", "no message")


def test_results_are_never_shifted_by_a_model_that_returns_too_few() -> None:
    with pytest.raises(AssertionError, match="2 results for 3 images"):
        run_guarded(lambda items: items[:2], [1, 2, 3], "tag")


def test_ctrl_c_is_not_an_image_error() -> None:
    def work(items):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_guarded(work, [1, 2], "tag")


def test_messages_are_one_line_of_bounded_length() -> None:
    error = describe("read", OSError("a\nb   c" + "x" * 10_000))
    assert error.message.startswith("a b cxxx")
    assert len(error.message) == MAX_MESSAGE
    assert error.type == "OSError"
