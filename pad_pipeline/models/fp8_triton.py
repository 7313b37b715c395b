"""Rows in 8 bits with their scales as Triton kernels, made where their numbers are made."""

# Triton's kernels are called by other names and types than they are declared with.
# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from pad_pipeline.models.fp8 import FORMAT
from pad_pipeline.models.norm_triton import add_and_norm

LARGEST = tl.constexpr(448.0)
SMALLEST_SCALE = tl.constexpr(1e-12)


@torch.library.custom_op("pad_pipeline::add_norm_scaled", mutates_args=())
def add_norm_scaled(
    residual: Tensor, update: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """`add_norm` whose second output is `ScaledRows`: the sum, values and scales."""
    residual, update = residual.contiguous(), update.contiguous()
    total, values, scales = _sum_and_rows_like(residual)
    launch_add_norm(residual, update, weight, bias, eps, total, values, scales)
    return total, values, scales


@torch.library.custom_op("pad_pipeline::scale_rows", mutates_args=())
def scale_rows(x: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    """`ScaledRows` of `x` (…, K), or of its GELU in float32: values and scales."""
    x = x.contiguous()
    _, values, scales = _sum_and_rows_like(x)
    launch_scale_rows(x, gelu, values, scales)
    return values, scales


def launch_add_norm(
    residual: Tensor, update: Tensor, weight: Tensor, bias: Tensor, eps: float, *outputs: Tensor
) -> None:
    """`add_norm_scaled` into its three outputs, all of them contiguous."""
    width = residual.shape[-1]
    add_norm_scaled_kernel[(residual.numel() // width,)](
        residual, update, weight, bias, *outputs, eps,
        WIDTH=width, WIDTH_2=triton.next_power_of_2(width),
        num_warps=4,
    )  # fmt: skip


def launch_scale_rows(x: Tensor, gelu: bool, values: Tensor, scales: Tensor) -> None:
    """`scale_rows` into its two outputs, all of them contiguous."""
    width = x.shape[-1]
    scale_rows_kernel[(x.numel() // width,)](
        x, values, scales, GELU=gelu, WIDTH=width, WIDTH_2=triton.next_power_of_2(width),
        num_warps=8,
    )  # fmt: skip


@add_norm_scaled.register_fake
def _(
    residual: Tensor, update: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return _sum_and_rows_like(residual)


@scale_rows.register_fake
def _(x: Tensor, gelu: bool) -> tuple[Tensor, Tensor]:
    return _sum_and_rows_like(x)[1:]


def _sum_and_rows_like(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape),
        x.new_empty(x.shape, dtype=FORMAT),
        x.new_empty((*x.shape[:-1], 1), dtype=torch.float32),
    )


@triton.jit
def add_norm_scaled_kernel(
    residual, update, weight, bias, total, values, scales, eps,
    WIDTH: tl.constexpr, WIDTH_2: tl.constexpr,
):  # fmt: skip
    """One row of WIDTH features; WIDTH_2 rounds it up to a power of two."""
    feature = tl.arange(0, WIDTH_2)
    start = tl.program_id(0).to(tl.int64) * WIDTH
    x = add_and_norm(residual, update, weight, bias, total, eps, start, feature, WIDTH)
    _store_scaled(x, values + start, scales + tl.program_id(0), feature, WIDTH)


@triton.jit
def scale_rows_kernel(
    x, values, scales, GELU: tl.constexpr, WIDTH: tl.constexpr, WIDTH_2: tl.constexpr
):
    """One row of WIDTH features; WIDTH_2 rounds it up to a power of two."""
    feature = tl.arange(0, WIDTH_2)
    start = tl.program_id(0).to(tl.int64) * WIDTH
    row = tl.load(x + start + feature, mask=feature < WIDTH, other=0.0).to(tl.float32)
    if GELU:
        row = 0.5 * row * (1.0 + tl.erf(row * 0.7071067811865476))
    _store_scaled(row, values + start, scales + tl.program_id(0), feature, WIDTH)


@triton.jit
def _store_scaled(x, values, scale, feature, WIDTH: tl.constexpr):
    valid = feature < WIDTH
    step = tl.max(tl.where(valid, tl.abs(x), 0.0), 0) / LARGEST
    step = tl.maximum(step, SMALLEST_SCALE)
    tl.store(scale, step)
    x = tl.minimum(tl.maximum(x / step, -LARGEST), LARGEST)
    tl.store(values + feature, x.to(values.dtype.element_ty), mask=valid)
