"""Fused attention with relative positions equals attention with a bias."""

from __future__ import annotations

import torch

from pad_pipeline.models.sam.attention import attend_folded, attend_with_bias


def test_position_terms_folded_into_the_features_are_the_bias() -> None:
    generator = torch.Generator().manual_seed(0)
    height, width, heads, features = 5, 7, 2, 12
    query, key, value = torch.randn(3, 4, heads, height * width, features, generator=generator)
    to_rows = torch.randn(4, heads, height * width, height, generator=generator)
    to_columns = torch.randn(4, heads, height * width, width, generator=generator)
    folded = attend_folded(query, key, value, to_rows, to_columns)
    by_bias = attend_with_bias(query, key, value, to_rows, to_columns)
    assert by_bias.std() > 0.1
    torch.testing.assert_close(folded, by_bias, atol=1e-5, rtol=1e-5)
