"""Von Neumann entropy of a set of tokens, gathered batch by batch (paper, definition 3.1).

Shapes: N tokens of a batch, D their width.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures.checks import check_vectors

_ROWS = 4096
"""Tokens turned to float64 at a time."""
_COLUMNS = 512
"""Widths multiplied at a time: only blocks on and above the diagonal, half of all."""


class EntropyMeter:
    """H = −Σ λ ln λ over the eigenvalues λ of Σ / tr Σ, with Σ = Σ v vᵀ / n over all tokens added.

    Not centred, natural logarithm, float64. Only the (D, D) sum of products is kept, on the device
    of the first tokens; neither the number of tokens nor of images takes memory.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self._squares_DD: Tensor | None = None

    def add(self, tokens_ND: Tensor) -> None:
        """Add tokens of any floating-point type; `UserError` where some are NaN or infinite."""
        known = self._squares_DD
        check_vectors(tokens_ND, "the tokens", None if known is None else len(known))
        tokens_ND = tokens_ND.detach()
        if known is None:
            width = tokens_ND.shape[1]
            known = torch.zeros(width, width, dtype=torch.float64, device=tokens_ND.device)
            self._squares_DD = known
        for rows_ND in tokens_ND.split(_ROWS):
            exact_ND = rows_ND.to(known.device, torch.float64)
            for first in range(0, len(known), _COLUMNS):
                block_NC = exact_ND[:, first : first + _COLUMNS]
                known[first : first + _COLUMNS, first:].addmm_(block_NC.T, exact_ND[:, first:])
        self.num_tokens += len(tokens_ND)

    def merge(self, other: EntropyMeter) -> None:
        """Add everything that another meter has seen, such as another worker's."""
        if other._squares_DD is None:
            return
        if self._squares_DD is None:
            self._squares_DD = torch.zeros_like(other._squares_DD)
        if self._squares_DD.shape != other._squares_DD.shape:
            raise UserError(
                f"tokens of the widths {len(self._squares_DD)} and {len(other._squares_DD)} have "
                "no common entropy: measure them apart"
            )
        self._squares_DD += other._squares_DD.to(self._squares_DD.device)
        self.num_tokens += other.num_tokens

    @property
    def value(self) -> float:
        """The entropy in nats, 0 (one direction) to ln D; `UserError` where all tokens are zero."""
        trace = 0.0 if self._squares_DD is None else float(self._squares_DD.trace())
        if self._squares_DD is None or trace == 0:
            raise UserError(
                f"the entropy of {self.num_tokens:,} tokens is undefined because none of them "
                "differs from zero: give at least one image, and check that the weights are loaded"
            )
        shares_D = torch.linalg.eigvalsh(self._squares_DD / trace, UPLO="U")
        # Rounding leaves eigenvalues of zero a little to either side; 0 ln 0 is 0.
        shares_D = shares_D[shares_D > 0]
        return max(0.0, -float((shares_D * shares_D.log()).sum()))


def delta_entropy(before: EntropyMeter, after: EntropyMeter) -> float:
    """ΔH: how much entropy the projector takes away (paper, section 4 and table 3)."""
    return before.value - after.value
