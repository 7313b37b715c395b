"""Masks as COCO compressed run-length strings: encode, decode, area, box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

_MAX_GROUPS = 7  # 35 bits: more pixels than any image has
_MAX_RUN = 1 << 31  # so that no sum of runs can pass 63 bits: a string has at most 2**31 bytes
_MAX_PIXELS = 1 << 30


def encode(mask: NDArray[np.bool_]) -> str:
    """An (H, W) bool mask -> its COCO compressed RLE `counts` string (column-major)."""
    height, width = mask.shape
    # Where a pixel differs from the one before it down the columns, found in the memory's own
    # row order: transposing the whole mask, as pycocotools needs it, costs two to four times more.
    differs = np.empty((height, width), dtype=bool)
    differs[0, 0] = mask[0, 0]
    np.not_equal(mask[0, 1:], mask[-1, :-1], out=differs[0, 1:])
    np.not_equal(mask[1:], mask[:-1], out=differs[1:])
    rows, columns = np.divmod(np.flatnonzero(differs), width)
    return encode_changes(np.sort(columns * height + rows), height, width)[0]


def encode_changes(changes: NDArray[np.int64], height: int, width: int) -> tuple[str, int]:
    """The `counts` string and the area of a mask, from where it changes.

    `changes` are the sorted column-major indices of the pixels that differ from the one before
    them; the one before the first counts as unset.
    """
    lengths = np.diff(changes, prepend=0, append=height * width)
    return encode_runs(lengths, height, width), int(lengths[1::2].sum())


def encode_runs(lengths: Sequence[int] | NDArray[np.int64], height: int, width: int) -> str:
    """The `counts` string of run lengths, zeros first, that cover height · width pixels."""
    rle: Any = {"size": [height, width], "counts": lengths}
    return coco_mask.frPyObjects(rle, height, width)["counts"].decode("ascii")


def decode(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """A `counts` string -> its (height, width) bool mask, stored by columns.

    Raises `ValueError` where the string is malformed, the runs do not add up to height · width
    (pycocotools itself would return garbage or write past the end), or these are more than 2**30.
    """
    lengths = _fitting_runs(counts, height, width)
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(width, height).T


def _fitting_runs(counts: str, height: int, width: int) -> NDArray[np.int64]:
    """The run lengths, checked to cover the image exactly; `ValueError` where they do not."""
    if height < 0 or width < 0 or height * width > _MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels are no size of a mask")
    lengths = np.array(runs(counts), dtype=np.int64)
    if lengths.sum() != height * width:
        raise ValueError(
            f"the mask's runs cover {lengths.sum()} pixels, but an image of {width}x{height} has "
            f"{height * width}"
        )
    return lengths


def area(counts: str, height: int, width: int) -> int:
    """Number of pixels set in the mask; raises `ValueError` as `decode` does."""
    return int(_fitting_runs(counts, height, width)[1::2].sum())


def area_of_sound(counts: str, height: int, width: int) -> int:
    """As `area`, sooner, for a string that is known to be sound: pycocotools checks nothing."""
    rle: Any = {"size": [height, width], "counts": counts}
    return int(coco_mask.area(rle))


def bounding_box(counts: str, height: int, width: int) -> tuple[float, float, float, float]:
    """Tight (x0, y0, x1, y1) in pixels, right and bottom edges exclusive; zeros when empty.

    Raises `ValueError` as `decode` does.
    """
    ends = np.cumsum(_fitting_runs(counts, height, width))
    starts, ends = ends[:-1:2], ends[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return 0.0, 0.0, 0.0, 0.0
    x0, x1 = starts[0] // height, (ends[-1] - 1) // height + 1
    tops, bottoms = starts % height, (ends - 1) % height + 1
    if np.any(starts // height != (ends - 1) // height):  # a run that goes on in the next column
        return float(x0), 0.0, float(x1), float(height)
    return float(x0), float(tops.min()), float(x1), float(bottoms.max())


def runs(counts: str) -> list[int]:
    """The run lengths of a `counts` string, zeros first; `ValueError` where it is malformed."""
    characters = np.frombuffer(counts.encode("utf-8"), dtype=np.uint8)
    parsed = parse_runs(characters, np.array([0, len(characters)]))
    if parsed.faults[0]:
        raise ValueError(FAULTS[parsed.faults[0]])
    return parsed.pairs.ravel()[: parsed.num_runs[0]].tolist()


FAULTS = (
    "",
    "a character does not occur in compressed masks",
    "the mask's last number is cut off",
    "a number of the mask is too long",
    "a run of the mask has negative length",
)
"""What is wrong with a `counts` string, by the number in `ParsedRuns.faults`."""


@dataclass(frozen=True, slots=True)
class ParsedRuns:
    """The runs of N masks in a row.

    `pairs` (P, 2) int64 are lengths of a run of zeros and the run of ones after it; those of mask k
    are `pairs[offsets[k]:offsets[k + 1]]`, the last pair filled up with a zero where the mask has
    an odd `num_runs`. `faults` (N,) index `FAULTS`, 0 where the string is well formed; the lengths
    of a faulty mask mean nothing.
    """

    pairs: NDArray[np.int64]
    offsets: NDArray[np.int64]
    num_runs: NDArray[np.int64]
    faults: NDArray[np.int8]


def parse_runs(characters: NDArray[np.uint8], offsets: NDArray[np.int64]) -> ParsedRuns:
    """The runs of N `counts` strings laid end to end as ASCII, string k at offsets k to k + 1.

    The format is COCO's: little-endian groups of five bits plus 48, bit 5 set where another group
    follows, the sign in the last group's bit 4; from the fourth run on, differences to the run
    before the last.
    """
    groups = characters - np.uint8(48)  # wraps round below "0", to more than 63 as well
    final = (groups & 32) == 0
    last = offsets[1:][offsets[1:] > offsets[:-1]] - 1
    cut_off = last[~final[last]]
    final[last] = True

    ends = np.flatnonzero(final)
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    num_groups = ends - starts + 1
    values = (groups[starts] & 31).astype(np.int64)
    for place in range(1, min(int(num_groups.max(initial=0)), _MAX_GROUPS)):
        longer = np.flatnonzero(num_groups > place)
        values[longer] |= (groups[starts[longer] + place] & 31).astype(np.int64) << (5 * place)
    negative = np.flatnonzero(groups[ends] & 16)
    values[negative] -= 1 << (5 * np.minimum(num_groups[negative], _MAX_GROUPS))

    # Every mask begins a new row of `pairs`, so that the differences of the runs of zeros and of
    # ones stand in a column each. The first run is no difference and is put back afterwards.
    run_offsets = np.searchsorted(ends, offsets)
    num_runs = np.diff(run_offsets)
    pair_offsets = np.concatenate([[0], np.cumsum((num_runs + 1) // 2)])
    shift = 2 * pair_offsets[:-1] - run_offsets[:-1]
    flat = np.zeros(2 * pair_offsets[-1], dtype=np.int64)
    flat[np.arange(len(values)) + np.repeat(shift, num_runs)] = values
    pairs = flat.reshape(-1, 2)
    rows = pair_offsets[:-1][num_runs > 0]
    first = pairs[rows, 0]
    pairs[rows, 0] = 0
    sums = np.concatenate([np.zeros((1, 2), dtype=np.int64), np.cumsum(pairs, axis=0)])
    pairs = sums[1:] - np.repeat(sums[pair_offsets[:-1]], np.diff(pair_offsets), axis=0)
    pairs[rows, 0] = first
    odd = num_runs % 2 == 1
    pairs[pair_offsets[1:][odd] - 1, 1] = 0

    faults = np.zeros(len(offsets) - 1, dtype=np.int8)
    for fault, where, bounds in (
        (3, np.flatnonzero(pairs.ravel() > _MAX_RUN) // 2, pair_offsets),
        (4, np.flatnonzero(pairs.ravel() < 0) // 2, pair_offsets),
        (3, np.flatnonzero(num_groups > _MAX_GROUPS), run_offsets),
        (2, cut_off, offsets),
        (1, np.flatnonzero(groups > 63), offsets),
    ):
        faults[np.searchsorted(bounds, where, side="right") - 1] = fault
    return ParsedRuns(pairs, pair_offsets, num_runs, faults)
