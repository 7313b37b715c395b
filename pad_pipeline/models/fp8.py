"""Linear layers in 8-bit floating point, with a scale for every row of both factors.

The format is e4m3: 4 bits of exponent, 3 of mantissa, up to 448. Each row of the weights and each
token's features are divided by their largest magnitude / 448 and multiplied by it again after the
product, which sums in float32 or, on a GPU, in what its matrix units hold.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pad_pipeline.errors import UserError, first_line
from pad_pipeline.models.precision import ASKED

FORMAT = torch.float8_e4m3fn
LARGEST = 448.0
SMALLEST_SCALE = 1e-12
"""Of a row of zeros, which has no magnitude to divide by."""
CAPABILITY = (8, 9)
"""The oldest GPUs that multiply 8-bit numbers: RTX 4090 and L4; H100 has 9.0."""


class ScaledRows(NamedTuple):
    """`values` (…, K) in 8 bits and the float32 `scales` (…, 1) that they are multiplied by."""

    values: Tensor
    scales: Tensor


def scale_rows(x: Tensor) -> ScaledRows:
    """`x` (…, K) in 8 bits, by torch's operators."""
    x = x.float()
    scales = (x.abs().amax(-1, keepdim=True) / LARGEST).clamp(min=SMALLEST_SCALE)
    return ScaledRows((x / scales).clamp(-LARGEST, LARGEST).to(FORMAT), scales)


class ScaledLinear(nn.Module):
    """A linear layer whose weights and inputs are `ScaledRows`; bias and output keep their dtype.

    `emulate` multiplies the same 8-bit numbers in float32, on any device, for comparisons.
    """

    values: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear, *, emulate: bool = False) -> None:
        super().__init__()
        values, scales = scale_rows(linear.weight)
        self.register_buffer("values", values, persistent=False)
        self.register_buffer("scales", scales, persistent=False)
        self.bias, self.dtype, self.emulate = linear.bias, linear.weight.dtype, emulate

    def forward(self, x: Tensor | ScaledRows) -> Tensor:
        """(…, K) to (…, N)."""
        rows = x if isinstance(x, ScaledRows) else scale_rows(x)
        values = rows.values.flatten(0, -2)
        scales = rows.scales.flatten(0, -2)
        if self.emulate:
            weight = self.values.float() * self.scales
            bias = None if self.bias is None else self.bias.float()
            found = F.linear(values.float() * scales, weight, bias).to(self.dtype)
        else:
            found = torch._scaled_mm(
                values, self.values.t(), scales, self.scales.t(), self.bias,
                out_dtype=self.dtype, use_fast_accum=True,
            )  # fmt: skip
        return found.view(*rows.values.shape[:-1], -1)


def check_fp8(device: torch.device) -> None:
    """Raise `UserError` where this GPU cannot multiply in 8 bits, or does so wrongly."""
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise UserError(
            ASKED,
            f" needs a GPU of compute capability 8.9 or later, such as an L4, RTX 4090 or H100; "
            f"the {name} has {capability[0]}.{capability[1]}, so leave it away",
        )
    try:
        error = scaled_linear_error(device)
    except RuntimeError as error:
        raise UserError(
            ASKED, f" does not work with this GPU and build of torch ({first_line(error)})"
        ) from error
    if not error < 0.02:
        raise UserError(
            ASKED,
            f" is off by {error:.0%} of what it should compute on this GPU, so leave it away",
        )


def scaled_linear_error(device: torch.device | str) -> float:
    """The relative error of `ScaledLinear` on a device against its emulation there, bfloat16."""
    generator = torch.Generator(device).manual_seed(0)
    linear = nn.Linear(256, 128, device=device, dtype=torch.bfloat16).requires_grad_(False)
    for parameter in linear.parameters():
        parameter.copy_(torch.randn(parameter.shape, generator=generator, device=device))
    x = torch.randn(64, 256, generator=generator, device=device).to(torch.bfloat16)
    exact = ScaledLinear(linear, emulate=True)(x).float()
    return float((ScaledLinear(linear)(x).float() - exact).norm() / exact.norm())
