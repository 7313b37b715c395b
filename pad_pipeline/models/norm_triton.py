"""Adding a residual and its layer norm as one Triton kernel, an operator of torch for GPUs."""

# Triton's kernels are called by other names and types than they are declared with.
# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor


@torch.library.custom_op("pad_pipeline::add_norm", mutates_args=())
def add_norm(
    residual: Tensor, update: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """`residual` + `update` (…, D), rounded to their dtype, and its layer norm.

    The same numbers in the same order as torch's two operators, but for the order of the float32
    sums of mean and variance; each tensor is read or written once.
    """
    residual, update = residual.contiguous(), update.contiguous()
    total, normed = residual.new_empty(residual.shape), residual.new_empty(residual.shape)
    width = residual.shape[-1]
    add_norm_kernel[(residual.numel() // width,)](
        residual, update, weight, bias, total, normed, eps,
        WIDTH=width, WIDTH_2=triton.next_power_of_2(width),
        num_warps=4,
    )  # fmt: skip
    return total, normed


@add_norm.register_fake
def _(
    residual: Tensor, update: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    return residual.new_empty(residual.shape), residual.new_empty(residual.shape)


@triton.jit
def add_norm_kernel(
    residual, update, weight, bias, total, normed, eps,
    WIDTH: tl.constexpr, WIDTH_2: tl.constexpr,
):  # fmt: skip
    """One row of WIDTH features; WIDTH_2 rounds it up to a power of two."""
    feature = tl.arange(0, WIDTH_2)
    start = tl.program_id(0).to(tl.int64) * WIDTH
    x = add_and_norm(residual, update, weight, bias, total, eps, start, feature, WIDTH)
    tl.store(normed + start + feature, x.to(normed.dtype.element_ty), mask=feature < WIDTH)


@triton.jit
def add_and_norm(residual, update, weight, bias, total, eps, start, feature, WIDTH: tl.constexpr):
    """The layer norm of one row's sum in float32, zero past WIDTH; `total` gets the sum."""
    valid = feature < WIDTH
    x = tl.load(residual + start + feature, mask=valid, other=0.0).to(tl.float32)
    x += tl.load(update + start + feature, mask=valid, other=0.0).to(tl.float32)
    rounded = x.to(total.dtype.element_ty)
    tl.store(total + start + feature, rounded, mask=valid)
    x = rounded.to(tl.float32)
    mean = tl.sum(x, 0) / WIDTH
    x = tl.where(valid, x - mean, 0.0)
    x *= tl.rsqrt(tl.sum(x * x, 0) / WIDTH + eps)
    x *= tl.load(weight + feature, mask=valid, other=0.0).to(tl.float32)
    return x + tl.load(bias + feature, mask=valid, other=0.0).to(tl.float32)
