"""The caption loss: the summed cross entropy of the supervised tokens, in bounded memory.

Shapes: N supervised positions, D width of the LLM, W words of its vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

LOGITS_AT_ONCE = 2**27
"""Logits that are held at a time: 0.5 GB of float32, or 4,194 positions at 32,000 words."""


def summed_cross_entropy(
    logits: Callable[[Tensor], Tensor], hidden_ND: Tensor, targets_N: Tensor, num_words: int
) -> Tensor:
    """The cross entropy (scalar) of the logits (N, W) of `hidden_ND`, summed over `targets_N`.

    Of many positions the logits are computed part by part, and again in the backward pass.
    """

    def of_part(hidden_ND: Tensor, targets_N: Tensor) -> Tensor:
        return functional.cross_entropy(logits(hidden_ND), targets_N, reduction="sum")

    chunk = max(1, LOGITS_AT_ONCE // num_words)
    if len(targets_N) <= chunk:
        return of_part(hidden_ND, targets_N)
    parts = [
        checkpoint(of_part, hidden, targets, use_reentrant=False)
        for hidden, targets in zip(hidden_ND.split(chunk), targets_N.split(chunk), strict=True)
    ]
    return torch.stack(parts).sum()  # pyright: ignore[reportArgumentType]
