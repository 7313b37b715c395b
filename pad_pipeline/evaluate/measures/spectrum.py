"""What lies behind an entropy: the mean's share, the largest eigenvalues, lengths, centring.

Shapes: N tokens of a batch, D their width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pad_pipeline.evaluate.measures.entropy import EntropyMeter

NUM_LARGEST = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Spectrum:
    """Of a set of tokens: entropies in nats, and shares of the trace of their second moments.

    `mean_share` is that of the tokens' mean, |mean|² / mean |v|²; `largest` are the first
    eigenvalues, not centred. `centred` and the `unit_norm` ones are the entropy with the mean taken
    away and with every token divided by its length; None where nothing is left of that.
    """

    num_tokens: int
    entropy: float
    centred: float | None
    unit_norm: float
    unit_norm_centred: float | None
    mean_share: float
    largest: tuple[float, ...]


class SpectrumMeter:
    """Gathers tokens batch by batch; keeps sums of products alone, in float64."""

    def __init__(self) -> None:
        self._moments, self._unit_moments = _Moments(), _Moments()

    @property
    def num_tokens(self) -> int:
        """How many tokens were added."""
        return self._moments.num_tokens

    def add(self, tokens_ND: Tensor) -> None:
        """Add tokens; those of length 0 stay so when divided by their length."""
        if len(tokens_ND):
            self._moments.add(tokens_ND)
            self._unit_moments.add(functional.normalize(tokens_ND.double(), dim=-1))

    @property
    def value(self) -> Spectrum | None:
        """The spectrum; None where no token was added."""
        if not self.num_tokens:
            return None
        return Spectrum(
            num_tokens=self.num_tokens,
            entropy=self._moments.value,
            centred=self._moments.centred_entropy,
            unit_norm=self._unit_moments.value,
            unit_norm_centred=self._unit_moments.centred_entropy,
            mean_share=self._moments.mean_share,
            largest=self._moments.largest(NUM_LARGEST),
        )


class _Moments(EntropyMeter):
    """The second moments of an `EntropyMeter`, and the mean."""

    def __init__(self) -> None:
        super().__init__()
        self._sum_D: Tensor | None = None

    def add(self, tokens_ND: Tensor) -> None:
        super().add(tokens_ND)
        sum_D = tokens_ND.detach().double().sum(dim=0)
        self._sum_D = sum_D if self._sum_D is None else self._sum_D + sum_D

    @property
    def mean_share(self) -> float:
        squares_DD, mean_D = self._known()
        return float(mean_D @ mean_D / squares_DD.trace())

    @property
    def centred_entropy(self) -> float | None:
        """The entropy of the tokens less their mean; None where they are all the same."""
        squares_DD, mean_D = self._known()
        centred_DD = squares_DD - torch.outer(mean_D, mean_D)
        trace = float(centred_DD.trace())
        if trace <= 1e-12 * float(squares_DD.trace()):
            return None
        return _entropy(torch.linalg.eigvalsh(centred_DD / trace))

    def largest(self, number: int) -> tuple[float, ...]:
        """The first eigenvalues as shares of their sum."""
        squares_DD, _ = self._known()
        shares_D = torch.linalg.eigvalsh(squares_DD / squares_DD.trace())
        return tuple(shares_D.flip(0)[:number].clamp(min=0).tolist())

    def _known(self) -> tuple[Tensor, Tensor]:
        """(second moments, mean), divided by the number of tokens."""
        assert self._squares_DD is not None
        assert self._sum_D is not None
        upper_DD = self._squares_DD.triu()
        whole_DD = upper_DD + upper_DD.triu(1).T
        return whole_DD / self.num_tokens, self._sum_D / self.num_tokens


def _entropy(shares_D: Tensor) -> float:
    shares_D = shares_D[shares_D > 0]
    return max(0.0, -float((shares_D * shares_D.log()).sum()))
