"""Masks of Label Studio's brush: runs of RGBA values, packed bit by bit (thi.ng's rle-pack)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_HEADER_BITS = 32 + 5 + 4 * 4


def decode_brush(packed: Sequence[int], height: int, width: int) -> NDArray[np.bool_]:
    """The (height, width) mask of packed bytes: the pixels that are not transparent.

    The bits are, first of all, the number of values (32), the bits of a value less one (5), and
    four widths of a run's length, each less one (4 · 4). Then runs: whether a value is repeated or
    several follow (1), which width the length has (2), the length less one, and the value or the
    values. Raises `ValueError` where they are not such, or of an image of another size.
    """
    bits = "".join(f"{byte:08b}" for byte in bytes(packed))
    if len(bits) < _HEADER_BITS:
        raise ValueError("the brush's mask has no header")
    number, value_bits = int(bits[:32], 2), int(bits[32:37], 2) + 1
    length_bits = [int(bits[at : at + 4], 2) + 1 for at in range(37, _HEADER_BITS, 4)]
    if number != 4 * height * width:
        raise ValueError(f"the brush's mask has {number} values for {width}x{height} pixels")
    is_set = np.zeros(number, dtype=bool)
    at, done = _HEADER_BITS, 0
    while done < number:
        start = at + 3
        is_repeated, width_of_length = bits[at : at + 1] == "1", bits[at + 1 : start]
        at = start + length_bits[int(width_of_length or "0", 2)]
        end = done + int(bits[start:at] or "0", 2) + 1
        count = 1 if is_repeated else end - done
        if end > number or at + count * value_bits > len(bits):
            raise ValueError("the brush's mask is cut off")
        read = [
            int(bits[place : place + value_bits], 2) > 0
            for place in range(at, at + count * value_bits, value_bits)
        ]
        is_set[done:end] = read
        at += count * value_bits
        done = end
    return is_set.reshape(height, width, 4)[..., 3]
