"""Matching pursuit against recorded picks, the algorithm token by token, and its memory bound."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.measures import pursuit
from pad_pipeline.evaluate.measures.pursuit import matching_pursuit
from tests.golden_data import golden_dir


def golden_cases():
    folder = golden_dir("analysis")
    arrays = load_file(folder / "pursuit.safetensors")
    tiny = golden_dir("llava_tiny")
    arrays["llava_tiny.tokens"] = load_file(tiny / "expected.safetensors")[
        "pretrain.image_features"
    ][0]
    arrays["llava_tiny.dictionary"] = load_file(tiny / "checkpoint.safetensors")[
        "model.embed_tokens.weight"
    ]
    for case in json.loads((folder / "pursuit.json").read_text())["cases"]:
        part = {
            key: arrays[f"{case['name']}.{key}"]
            for key in ("tokens", "dictionary", "indices", "inner_products", "residual_norms")
        }
        yield case, part


def assert_golden(dtype: torch.dtype, tolerance: float) -> None:
    cases = list(golden_cases())
    assert cases
    for case, part in cases:
        found = matching_pursuit(
            part["tokens"].to(dtype), part["dictionary"].to(dtype), num_iterations=case["K"]
        )
        name = case["name"]
        assert found.indices_NK.tolist() == part["indices"].tolist(), name
        for ours, theirs in (
            (found.products_NK, part["inner_products"]),
            (found.residual_norms_NK, part["residual_norms"]),
        ):
            assert ours.shape == theirs.shape
            torch.testing.assert_close(ours.double(), theirs.double(), rtol=0, atol=tolerance)


def test_golden_picks_in_float64():
    assert_golden(torch.float64, 1e-6)  # the largest difference is llava_tiny's, kept in float32


def test_golden_picks_in_float32():
    assert_golden(torch.float32, 1e-4)


def test_golden_picks_in_the_smallest_chunks(monkeypatch):
    monkeypatch.setattr(pursuit, "_chunk_sizes", lambda width, num_words, numbers: (2, 7))
    assert_golden(torch.float64, 1e-6)


def algorithm_1(token: list[float], words: list[list[float]], num_iterations: int):
    """The paper's algorithm in Python's own numbers: picks and products."""
    unit = [[x / math.hypot(*word) for x in word] if any(word) else None for word in words]
    picks, products = [], []
    for _ in range(num_iterations):
        scores = [
            -math.inf if word is None else sum(a * b for a, b in zip(word, token, strict=True))
            for word in unit
        ]
        pick = scores.index(max(scores))
        chosen = unit[pick]
        assert chosen is not None
        token = [a - scores[pick] * b for a, b in zip(token, chosen, strict=True)]
        picks.append(pick)
        products.append(scores[pick])
    return picks, products


def random_tensors(*shapes: tuple[int, int], seed: int = 0) -> list[Tensor]:
    make = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=make, dtype=torch.float64) for shape in shapes]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(2, 6))
def test_equals_the_algorithm(seed: int, num_words: int, width: int):
    tokens, words = random_tensors((5, width), (num_words, width), seed=seed)
    words[num_words // 2 + 1 :: 7] = 0
    found = matching_pursuit(tokens, words, num_iterations=4)
    for row in range(5):
        picks, products = algorithm_1(tokens[row].tolist(), words.tolist(), 4)
        assert found.indices_NK[row].tolist() == picks
        assert found.products_NK[row].tolist() == pytest.approx(products, abs=1e-10)


def test_the_first_of_equal_words_wins_across_chunks(monkeypatch):
    monkeypatch.setattr(pursuit, "_chunk_sizes", lambda width, num_words, numbers: (1, 2))
    words = torch.eye(3, dtype=torch.float64)[[1, 0, 0, 1, 2, 0]]
    found = matching_pursuit(torch.tensor([[1.0, 2, 0]]).double(), words, num_iterations=3)
    assert found.indices_NK.tolist() == [[0, 1, 0]]
    assert found.products_NK.tolist() == [[2, 1, 0]]


def test_similarities_are_cosines_and_zero_where_nothing_is_left():
    tokens, words = random_tensors((9, 6), (30, 6))
    found = matching_pursuit(tokens, words)
    first = torch.nn.functional.normalize(words[found.indices_NK[:, 0]], dim=-1)
    expected = torch.nn.functional.cosine_similarity(first, tokens)
    torch.testing.assert_close(found.similarities_NK[:, 0], expected)
    assert found.similarities_NK.shape == (9, 5)
    nothing = matching_pursuit(torch.zeros(2, 6), words)
    assert nothing.similarities_NK.tolist() == [[0.0] * 5] * 2


def test_bfloat16_is_computed_in_float32():
    tokens, words = (t.bfloat16() for t in random_tensors((20, 8), (60, 8)))
    found = matching_pursuit(tokens, words)
    exact = matching_pursuit(tokens.double(), words.double())
    assert found.products_NK.dtype == torch.float32
    assert found.indices_NK.tolist() == exact.indices_NK.tolist()


@pytest.mark.parametrize(("width", "num_words"), [(4096, 32_000), (64, 800), (4096, 200_000)])
@pytest.mark.parametrize("memory_mib", [16, 256])
def test_chunks_stay_within_the_memory(width, num_words, memory_mib):
    numbers = memory_mib * 2**20 // 4
    tokens, words = pursuit._chunk_sizes(width, num_words, numbers)
    assert tokens >= 1
    assert words * width + tokens * (words + 3 * width) <= numbers


def test_products_of_all_tokens_and_words_are_never_held_at_once(monkeypatch):
    tokens, words = random_tensors((100, 16), (5000, 16))
    expected = matching_pursuit(tokens, words)
    shapes = []
    original = pursuit._best_words

    def watched(residual_ND, vocabulary_WD, lengths_W, num_words):
        shapes.append((len(residual_ND), num_words))
        return original(residual_ND, vocabulary_WD, lengths_W, num_words)

    monkeypatch.setattr(pursuit, "_best_words", watched)
    found = matching_pursuit(tokens, words, memory_mib=1)
    assert max(a * b for a, b in shapes) * 8 <= 2**20 < 100 * 5000 * 8
    assert found.indices_NK.tolist() == expected.indices_NK.tolist()


def test_bad_input_is_named():
    tokens, words = random_tensors((4, 6), (30, 6))
    with pytest.raises(UserError, match="the projected tokens hold NaN"):
        matching_pursuit(tokens.index_fill(0, torch.tensor([2]), math.nan), words)
    with pytest.raises(UserError, match="the vocabulary's embeddings hold NaN"):
        matching_pursuit(tokens, words.index_fill(0, torch.tensor([2]), math.nan))
    with pytest.raises(UserError, match="are 5 wide where 6 was expected"):
        matching_pursuit(tokens, words[:, :5])
    with pytest.raises(UserError, match="none of the vocabulary's 30 embeddings"):
        matching_pursuit(tokens, torch.zeros_like(words))
    with pytest.raises(UserError, match="at least one iteration, not 0"):
        matching_pursuit(tokens, words, num_iterations=0)
    assert matching_pursuit(tokens[:0], words).indices_NK.shape == (0, 5)
