"""How often matching pursuit names what a patch shows: precision and recall, word by word.

Shapes: N tokens of labelled patches, K iterations.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class PursuitMeter:
    """Gathers the words picked for labelled patches, against the labels of their regions.

    Precision at k is the share of the first k picks that are a token of one of the patch's labels;
    recall at k the share of its labels of which a token is among them; both are means over patches.
    A patch has no word if none of its K picks is a token of any known label.
    """

    num_iterations: int
    known: Set[int]
    """Token ids of all labels."""
    num_patches: int = 0
    num_without_word: int = 0
    _precision_K: NDArray[np.float64] = field(init=False)
    _recall_K: NDArray[np.float64] = field(init=False)

    def __post_init__(self) -> None:
        self._precision_K = np.zeros(self.num_iterations)
        self._recall_K = np.zeros(self.num_iterations)

    def add(self, picks_K: Sequence[int], labels: Sequence[Sequence[int]]) -> None:
        """Add a patch: the ids that pursuit picked in order, and the ids of each of its labels."""
        assert len(picks_K) == self.num_iterations
        assert labels
        right = {token for label in labels for token in label}
        self.num_patches += 1
        self.num_without_word += self.known.isdisjoint(picks_K)
        for k in range(1, self.num_iterations + 1):
            first = set(picks_K[:k])
            self._precision_K[k - 1] += sum(pick in right for pick in picks_K[:k]) / k
            self._recall_K[k - 1] += sum(bool(first & set(label)) for label in labels) / len(labels)

    @property
    def precision_K(self) -> NDArray[np.float64]:
        """(K,) means, NaN without a patch."""
        return (
            self._precision_K / self.num_patches if self.num_patches else self._precision_K * np.nan
        )

    @property
    def recall_K(self) -> NDArray[np.float64]:
        """(K,) means, NaN without a patch."""
        return self._recall_K / self.num_patches if self.num_patches else self._recall_K * np.nan

    @property
    def share_without_word(self) -> float:
        """Of the labelled patches; NaN without one."""
        return self.num_without_word / self.num_patches if self.num_patches else float("nan")
