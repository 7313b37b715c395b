"""Stage 1 of a 7B model: steps with and without packing, as a share of the card's matrix rate."""

from __future__ import annotations

from functools import partial

import train_packing

from gpu_sections import matrix
from gpu_sections.bench import Bench, Row, Rows

REPEATS, TINY_REPEATS = 3, 1


def rows(bench: Bench, *ways: str) -> Rows:
    """These ways of `train_packing` by turns, on one model, and packed without the patch loss."""
    measured: dict[str, Row] = {}
    for way in (*ways, train_packing.PATCH_LOSS):
        yield way, partial(measure, bench, list(ways), way, measured)


def measure(bench: Bench, ways: list[str], way: str, measured: dict[str, Row]) -> Row:
    """The row of a way. All are measured by the first call, so that they share what disturbs."""
    if not measured:
        rate = matrix.matrix_tflops(bench)
        found = train_packing.measure(
            "tiny" if bench.tiny else "7b",
            bench.device,
            "pretrain",
            TINY_REPEATS if bench.tiny else REPEATS,
            ways,
            {"matrix_rate_tflops": rate},
        )
        measured.update({row.pop("way"): row | {"matrix_tflops": rate} for row in found})
    return measured[way]
