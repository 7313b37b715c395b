from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline.cognition.answers import (
    AnswerError,
    as_grid,
    longest_indices,
    longest_rgb,
    read_indices,
    read_rgb,
    write_indices,
    write_rgb,
)

GRID = np.array([[3492, 532], [0, 4095]])


def test_indices_are_written_row_by_row_and_read_back() -> None:
    text = write_indices(GRID)
    assert text == "<vq start>[3492, 532, 0, 4095]<vq end>"
    assert np.array_equal(as_grid(read_indices(text, 4096), 2, 2), GRID)
    # as Table 6 prints it
    assert read_indices("<vq start>3492, 3492, 532]<vq end>") == [3492, 3492, 532]


def test_colours_are_written_row_by_row_and_read_back() -> None:
    pixels = np.array([[[205, 203, 191], [203, 201, 189]]], np.uint8)
    text = write_rgb(pixels)
    assert text == "<rgb start>[[205, 203, 191], [203, 201, 189]]<rgb end>"
    assert np.array_equal(as_grid(read_rgb(text), 1, 2), pixels)


def test_no_answer_is_longer_than_its_bound() -> None:
    assert len(write_indices(np.full(7, 4095))) == longest_indices(7, 4096)
    assert len(write_rgb(np.full((5, 3), 255, np.uint8))) == longest_rgb(5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "expected <vq start> … <vq end>, found '[1, 2]'"),
        ("<vq start>[1, 2", "expected <vq start> … <vq end>"),
        ("<vq start>[]<vq end>", "expected numbers with commas, found '[]'"),
        ("<vq start>[1, two]<vq end>", "expected numbers with commas"),
        ("<vq start>[1, -2]<vq end>", "expected numbers with commas"),
        ("<vq start>[1, 4096]<vq end>", "4096 is past the codebook, which has 4,096 codes from 0"),
    ],
)
def test_a_text_that_is_no_list_of_indices_is_refused(text: str, message: str) -> None:
    with pytest.raises(AnswerError) as error:
        read_indices(text, 4096)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<rgb start>[[1, 2, 3]<rgb end>", "expected a list of [r, g, b], found '[[1, 2, 3]'"),
        ("<rgb start>[[1, 2]]<rgb end>", "from 0 to 255, found '[[1, 2]]'"),
        ("<rgb start>[[1, 2, 256]]<rgb end>", "from 0 to 255"),
        ("<rgb start>[[1, 2, true]]<rgb end>", "from 0 to 255"),
        ("<rgb start>[]<rgb end>", "from 0 to 255"),
        ("<rgb start>" + "[" * 100_000 + "<rgb end>", "expected a list of [r, g, b]"),
        ("<vq start>[1]<vq end>", "expected <rgb start> … <rgb end>"),
    ],
)
def test_a_text_that_is_no_list_of_colours_is_refused(text: str, message: str) -> None:
    with pytest.raises(AnswerError) as error:
        read_rgb(text)
    assert message in str(error.value)


def test_another_number_of_values_is_refused() -> None:
    with pytest.raises(AnswerError, match="expected 2 x 3 = 6 values, found 4"):
        as_grid([1, 2, 3, 4], 2, 3)
