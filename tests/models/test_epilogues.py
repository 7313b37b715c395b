"""Activations in the product's epilogue."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pad_pipeline.models import epilogues
from pad_pipeline.models.epilogues import gelu_is_exact_enough, linear_gelu, linear_relu


def make_linear(dtype: torch.dtype) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(48, 96).to(dtype).requires_grad_(False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_in_the_epilogue_is_bit_for_bit_the_same(dtype: torch.dtype) -> None:
    linear = make_linear(dtype)
    x = torch.randn(2, 5, 7, 48).to(dtype)
    found = linear_relu(linear, x)
    assert found.shape == (2, 5, 7, 96)
    assert torch.equal(found, F.relu(linear(x)))


def test_gelu_in_the_epilogue_is_gelu() -> None:
    linear = make_linear(torch.float32)
    x = torch.randn(2, 5, 48)
    torch.testing.assert_close(linear_gelu(linear, x), F.gelu(linear(x)), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("approximate", "shift", "enough"),
    [("none", 0, True), ("tanh", 0, True), ("none", 0.02, False)],
)
def test_gelu_may_be_the_tanh_form_where_it_is_made_before_rounding(
    approximate: str, shift: float, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def product_with(linear: nn.Linear, x: torch.Tensor, *, use_gelu: bool) -> torch.Tensor:
        assert use_gelu
        product = x.float() @ linear.weight.float().T + linear.bias.float()
        return (F.gelu(product, approximate=approximate) + shift).to(x.dtype)

    monkeypatch.setattr(epilogues, "_product_with", product_with)
    assert gelu_is_exact_enough(make_linear(torch.bfloat16)) is enough
    assert not gelu_is_exact_enough(make_linear(torch.float32))
    assert not gelu_is_exact_enough(make_linear(torch.float16))
