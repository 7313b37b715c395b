"""Answers of VQ indices and RGB values as text, and back."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.errors import UserError

Level = Literal["high", "low"]
"""Of a question: VQ indices, or RGB values."""

VQ_START, VQ_END = "<vq start>", "<vq end>"
RGB_START, RGB_END = "<rgb start>", "<rgb end>"

_SHOWN = 40
_INDICES = re.compile(r"\[?\s*(\d+(?:\s*,\s*\d+)*)\s*\]?")


class AnswerError(UserError):
    """A text that is no such answer; the message says what was found."""


def write_indices(indices: NDArray[np.integer]) -> str:
    """`<vq start>[3492, 532, …]<vq end>`, row by row."""
    return f"{VQ_START}{json.dumps(indices.ravel().tolist())}{VQ_END}"


def read_indices(text: str, num_codes: int | None = None) -> list[int]:
    """The indices of an answer, also without brackets as Table 6 opens its own.

    Raises `AnswerError` where the text is none, or an index lies past a codebook of `num_codes`.
    """
    inner = _between(text, VQ_START, VQ_END)
    found = _INDICES.fullmatch(inner.strip())
    if found is None:
        raise AnswerError(f"expected numbers with commas, found {_begin(inner)}")
    indices = [int(number) for number in found[1].split(",")]
    wrong = next((index for index in indices if num_codes is not None and index >= num_codes), None)
    if wrong is not None:
        raise AnswerError(f"{wrong} is past the codebook, which has {num_codes:,} codes from 0")
    return indices


def longest_indices(number: int, num_codes: int) -> int:
    """Characters that an answer of `number` indices of such a codebook has at most."""
    brackets = len(VQ_START) + len(VQ_END) + 2
    return brackets + number * (len(str(num_codes - 1)) + 2) - 2


def write_rgb(pixels_HW3: NDArray[np.uint8]) -> str:
    """`<rgb start>[[205, 203, 191], …]<rgb end>`, row by row."""
    return f"{RGB_START}{json.dumps(pixels_HW3.reshape(-1, 3).tolist())}{RGB_END}"


def read_rgb(text: str) -> NDArray[np.uint8]:
    """The (N, 3) values of an answer; raises `AnswerError` where the text is none."""
    inner = _between(text, RGB_START, RGB_END)
    try:
        values = json.loads(inner)
    except (ValueError, RecursionError) as error:
        raise AnswerError(f"expected a list of [r, g, b], found {_begin(inner)}") from error
    triples = isinstance(values, list) and values and all(map(_is_rgb, values))
    if not triples:
        raise AnswerError(f"expected a list of [r, g, b] from 0 to 255, found {_begin(inner)}")
    return np.array(values, np.uint8)


def longest_rgb(number: int) -> int:
    """Characters that an answer of `number` RGB values has at most."""
    brackets = len(RGB_START) + len(RGB_END) + 2
    return brackets + number * (len("[255, 255, 255]") + 2) - 2


def as_grid(values: Sequence[int] | NDArray, rows: int, columns: int) -> NDArray:
    """The values of an answer in rows and columns; raises `AnswerError` for another number."""
    if len(values) != rows * columns:
        raise AnswerError(
            f"expected {rows} x {columns} = {rows * columns:,} values, found {len(values):,}"
        )
    return np.asarray(values).reshape(rows, columns, *np.shape(values)[1:])


def _between(text: str, start: str, end: str) -> str:
    text = text.strip()
    if not (text.startswith(start) and text.endswith(end)):
        raise AnswerError(f"expected {start} … {end}, found {_begin(text)}")
    return text[len(start) : len(text) - len(end)]


def _is_rgb(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and all(type(one) is int and 0 <= one <= 255 for one in value)
    )


def _begin(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
