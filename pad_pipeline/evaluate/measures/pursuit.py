"""Matching pursuit: which words of the LLM a vision token is made of (paper, algorithm 1).

Shapes: N tokens, W words of the vocabulary, D width of the LLM, K iterations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures.checks import check_vectors


@dataclass(frozen=True, slots=True)
class Pursuit:
    """The words picked for each token, in the order of the iterations, on the tokens' device."""

    indices_NK: Tensor
    """int64, rows of the vocabulary; a word can be picked again."""
    products_NK: Tensor
    """⟨w, v⟩ of the unit word with what was left of the token, in the tokens' own units."""
    residual_norms_NK: Tensor
    """(N, K + 1): the length of the token, then what is left of it after each iteration."""

    @property
    def similarities_NK(self) -> Tensor:
        """cos(w, v) of each pick with what was left of the token; 0 where nothing was left."""
        left_NK = self.residual_norms_NK[:, :-1]
        return torch.where(left_NK > 0, self.products_NK / left_NK, 0).clamp(-1, 1)


@torch.no_grad()
def matching_pursuit(
    tokens_ND: Tensor, vocabulary_WD: Tensor, *, num_iterations: int = 5, memory_mib: int = 256
) -> Pursuit:
    """Take `num_iterations` words from each token: the largest ⟨w, v⟩, then v − ⟨w, v⟩ w.

    Words are brought to unit length, tokens are not; the product is signed, the first of equals
    wins, words can come again and zero rows never do. Computed in float32, or float64 where both
    are float64, on the tokens' device. Products and converted words take at most about `memory_mib`
    MiB at a time, however large vocabulary and number of tokens are. Raises `UserError` for NaN,
    widths that differ, and a vocabulary without a non-zero row.
    """
    check_vectors(tokens_ND, "the projected tokens")
    check_vectors(vocabulary_WD, "the vocabulary's embeddings", tokens_ND.shape[1])
    if num_iterations < 1:
        raise UserError(f"matching pursuit needs at least one iteration, not {num_iterations}")
    both_double = tokens_ND.dtype == vocabulary_WD.dtype == torch.float64
    dtype = torch.float64 if both_double else torch.float32
    num_tokens, num_words = _chunk_sizes(
        tokens_ND.shape[1], len(vocabulary_WD), memory_mib * 2**20 // dtype.itemsize
    )
    lengths_W = _lengths(vocabulary_WD, dtype, num_words).to(tokens_ND.device)
    if not bool((lengths_W > 0).any()):
        raise UserError(
            f"none of the vocabulary's {len(vocabulary_WD):,} embeddings differs from zero: check "
            "that the language model's weights are loaded"
        )
    parts = [
        _pursue(part_ND.to(dtype), vocabulary_WD, lengths_W, num_iterations, num_words)
        for part_ND in tokens_ND.split(num_tokens)
    ]
    return Pursuit(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _pursue(
    residual_ND: Tensor,
    vocabulary_WD: Tensor,
    lengths_W: Tensor,
    num_iterations: int,
    num_words: int,
) -> tuple[Tensor, Tensor, Tensor]:
    indices, products, norms = [], [], [torch.linalg.vector_norm(residual_ND, dim=-1)]
    for _ in range(num_iterations):
        index_N, product_N = _best_words(residual_ND, vocabulary_WD, lengths_W, num_words)
        picked_ND = vocabulary_WD[index_N.to(vocabulary_WD.device)].to(residual_ND)
        scale_N = product_N / lengths_W[index_N]
        residual_ND = residual_ND - scale_N.unsqueeze(-1) * picked_ND
        indices.append(index_N)
        products.append(product_N)
        norms.append(torch.linalg.vector_norm(residual_ND, dim=-1))
    return torch.stack(indices, 1), torch.stack(products, 1), torch.stack(norms, 1)


def _best_words(
    residual_ND: Tensor, vocabulary_WD: Tensor, lengths_W: Tensor, num_words: int
) -> tuple[Tensor, Tensor]:
    best_N = residual_ND.new_full((len(residual_ND),), -torch.inf)
    index_N = torch.zeros_like(best_N, dtype=torch.int64)
    for first in range(0, len(vocabulary_WD), num_words):
        words_WD = vocabulary_WD[first : first + num_words].to(residual_ND)
        part_W = lengths_W[first : first + num_words]
        product_NW = (residual_ND @ words_WD.T).div_(part_W)
        product_NW.masked_fill_(part_W == 0, -torch.inf)
        part_best_N, part_index_N = product_NW.max(dim=-1)
        better_N = part_best_N > best_N
        best_N = torch.where(better_N, part_best_N, best_N)
        index_N = torch.where(better_N, part_index_N + first, index_N)
    return index_N, best_N


def _lengths(vocabulary_WD: Tensor, dtype: torch.dtype, num_words: int) -> Tensor:
    parts = vocabulary_WD.split(num_words)
    return torch.cat([torch.linalg.vector_norm(part_WD.to(dtype), dim=-1) for part_WD in parts])


def _chunk_sizes(width: int, num_words: int, numbers: int) -> tuple[int, int]:
    """(tokens, words) at a time: half of the memory for the converted words, half for products.

    A token also needs three vectors: itself, what is left of it and the word picked.
    """
    words = min(max(numbers // 2 // width, 1), max(num_words, 1))
    return max(numbers // 2 // (words + 3 * width), 1), words
