"""How far the kernels of SAM's encoder are from torch in float32, on random numbers of a device."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.models.sam.attention import attend_in_windows

ALLOWED_EPS = 4
"""Relative error that is allowed, in units of the dtype's eps. With 0.5 for each rounding, what
comes out is rounded once, and so are the weights and the terms before."""


def attention_error(
    like: Tensor, heads: int, features: int, size: tuple[int, int], side: int
) -> float:
    """The relative error of attention in windows of `side` of one image of `size` (H, W) tokens.

    The kernel is the one that a model with so many heads runs; one head is compared, because torch
    needs a table of all pairs of tokens for it. `like` gives device and dtype.
    """
    from pad_pipeline.models.sam.attention_ops import attend

    draw = _Draw(like)
    qkv = draw(1, *size, 3, heads, features)
    bias = draw(3 * heads * features)
    rows, columns = (0.3 * draw(2 * side - 1, features) for _ in "yx")
    found = attend(qkv, bias, rows, columns, side).unflatten(-1, (heads, features))
    last = heads - 1
    exact = attend_in_windows(
        qkv[..., last:, :].float(),
        bias.view(3, heads, features)[:, last:].float().flatten(),
        rows.float(),
        columns.float(),
        side,
    )
    return _relative(found[..., last, :], exact)


def add_norm_error(like: Tensor, width: int) -> float:
    """The larger relative error of the two outputs of `add_norm` on rows of `width` features."""
    from pad_pipeline.models.norm_triton import add_norm

    draw = _Draw(like)
    residual, update = draw(3, 5, width), draw(3, 5, width)
    weight, bias = draw(width), draw(width)
    total, normed = add_norm(residual, update, weight, bias, 1e-6)
    exact = F.layer_norm((residual + update).float(), (width,), weight.float(), bias.float(), 1e-6)
    return max(_relative(total, (residual + update).float()), _relative(normed, exact))


def allowed(dtype: torch.dtype) -> float:
    """The relative error that the kernels may have in `dtype`."""
    return ALLOWED_EPS * torch.finfo(dtype).eps


class _Draw:
    """Normal random numbers of a tensor's device and dtype, always the same."""

    def __init__(self, like: Tensor) -> None:
        self.like = like
        self.generator = torch.Generator(like.device).manual_seed(0)

    def __call__(self, *shape: int) -> Tensor:
        drawn = torch.randn(*shape, generator=self.generator, device=self.like.device)
        return drawn.to(self.like.dtype)


def _relative(found: Tensor, exact: Tensor) -> float:
    return float((found.float() - exact).norm() / exact.norm())
