"""Activations as the last step of the matrix product before them, where that is exact enough."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def linear_gelu(linear: nn.Linear, x: Tensor) -> Tensor:
    """GELU of a linear layer's output in one operator; see `gelu_is_exact_enough`."""
    return _product_with(linear, x, use_gelu=True)


def linear_relu(linear: nn.Linear, x: Tensor) -> Tensor:
    """ReLU of a linear layer's output in one operator, bit for bit the same as in two."""
    return _product_with(linear, x, use_gelu=False)


def gelu_is_exact_enough(linear: nn.Linear) -> bool:
    """Whether `linear_gelu` errs no more than the layer and `F.gelu`, on the layer's own device.

    cuBLAS may compute GELU by its tanh form, which is up to 4.7e-4 off; but it does so before the
    product is rounded to the layer's dtype, which for bfloat16 more than makes up for it. Both are
    measured against float64, with inputs spread such that the outputs are those of a GELU's range.
    """
    weight, bias = linear.weight, linear.bias
    if weight.dtype != torch.bfloat16 or bias is None:
        return False
    generator = torch.Generator(weight.device).manual_seed(0)
    x = torch.randn(256, weight.shape[1], generator=generator, device=weight.device)
    spread = (x @ weight.float().T).std().clamp(min=1e-6)
    x = (1.5 * x / spread).to(weight.dtype)
    exact = F.gelu(x.double() @ weight.double().T + bias.double())
    in_two, in_one = (
        float((found.double() - exact).norm())
        for found in (F.gelu(linear(x)), linear_gelu(linear, x))
    )
    return in_one <= in_two


def _product_with(linear: nn.Linear, x: Tensor, *, use_gelu: bool) -> Tensor:
    rows = x.flatten(0, -2)
    found = torch._addmm_activation(linear.bias, rows, linear.weight.t(), use_gelu=use_gelu)
    return found.view(*x.shape[:-1], -1)
