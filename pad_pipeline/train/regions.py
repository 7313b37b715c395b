"""Which tokens a region covers: one rule for the losses, the measures and the pictures."""

from __future__ import annotations

import torch
from torch import Tensor

COVERED_FROM = 0.5
"""The fraction of a token's area from which on it belongs to a region; half itself counts."""


def covered_tokens(coverage_IRP: Tensor, *, best_patch: bool = False) -> Tensor:
    """(..., R, P) bool: which tokens belong to each region.

    `coverage_IRP` (..., R, P) is the fraction (0–1) of each token's area that each region's mask
    covers. Tokens covered at least by half belong to a region; with `best_patch` a region that has
    none takes the first of those that it covers most, if it covers any.
    """
    covered_IRP = coverage_IRP >= COVERED_FROM
    if not best_patch or coverage_IRP.shape[-1] == 0:
        return covered_IRP
    most_IR, first_IR = coverage_IRP.max(dim=-1).values, coverage_IRP.argmax(dim=-1)
    wanting_IR = ~covered_IRP.any(dim=-1) & (most_IR > 0)
    places_P = torch.arange(coverage_IRP.shape[-1], device=coverage_IRP.device)
    return covered_IRP | (wanting_IR.unsqueeze(-1) & (places_P == first_IR.unsqueeze(-1)))
