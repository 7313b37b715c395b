"""Attention of SAM's image encoder over the projection's own output, as operators for GPUs.

They are operators of torch, so that tracing, compiling and counting see them as one call each.

Legend of the shapes: B images, H rows and W columns of tokens, h heads, d features of a head, P
places along one side of a window, rounded up.
"""

# Triton's kernels are called by other names and types than they are declared with.
# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
from __future__ import annotations

from dataclasses import dataclass

import torch
import triton  # pyright: ignore[reportMissingImports]
from torch import Tensor

from pad_pipeline.models.sam.attention import split_features
from pad_pipeline.models.sam.attention_triton import (
    images_kernel,
    terms_kernel,
    windows_kernel,
)

_LOG2E = 1.4426950408889634


@dataclass(frozen=True, slots=True)
class Launch:
    """How an attention kernel is cut up: queries of a program, keys at a time, warps, stages.

    A program of `image_attention` reads a row of the image's keys at a time, whatever `keys` is.
    """

    queries: int
    keys: int
    warps: int
    stages: int


WINDOWS = (
    Launch(64, 32, 4, 2),
    Launch(64, 64, 4, 2),
    Launch(64, 32, 4, 3),
    Launch(128, 64, 8, 2),
)
"""Settings of `window_attention` that compile for all architectures without spills, the one in use
first."""

IMAGES = (
    Launch(64, 64, 4, 3),
    Launch(64, 64, 4, 2),
    Launch(128, 64, 8, 2),
    Launch(128, 64, 8, 3),
)
"""The same for `image_attention`."""


def places(side: int) -> int:
    """P of a side: matrix units take 16 places and more, in powers of two."""
    return max(16, 1 << (side - 1).bit_length())


def is_one_image(side: int, height: int, width: int) -> bool:
    """Whether windows of `side` are the image, and of a size that `image_attention` takes."""
    return side == height == width and places(side) == side


def attend(qkv: Tensor, bias: Tensor, rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """Attention within windows of `side` × `side` tokens, (B, H, W, h·d) as `proj` reads it.

    `qkv` (B, H, W, 3, h, d) is what the projection gives for the image's own tokens and `bias`
    (3·h·d,) its bias; `rows` and `columns` (2·side - 1, d) are the tables of relative positions.
    The windows begin at the top left and may reach outside of the image; `side` = H = W is
    attention in the whole image.
    """
    height, width = qkv.shape[1:3]
    terms = position_terms(qkv, rows, columns, side)
    if is_one_image(side, height, width):
        return image_attention(qkv, terms)
    return window_attention(qkv, bias, terms, side)


@torch.library.custom_op("pad_pipeline::sam_position_terms", mutates_args=())
def position_terms(qkv: Tensor, rows: Tensor, columns: Tensor, side: int) -> Tensor:
    """(B, H, W, h, 2·P): what a query adds for keys in every row of its window, then column.

    Divided by the scale of attention, so that they can be added to q · k.
    """
    terms = _terms_like(qkv, side)
    batch, height, width, _, heads, features = qkv.shape
    first, second = _tiles(features)
    longest = max(height, width)
    block = min(64, places(longest))
    terms_kernel[(batch * longest, triton.cdiv(longest, block), 2 * heads)](
        qkv, rows, columns, terms, height, width, features**-0.5,
        HEADS=heads, D1=first, D2=second, SIDE=side, P=places(side), BLOCK=block,
        num_warps=4, num_stages=2,
    )  # fmt: skip
    return terms


@torch.library.custom_op("pad_pipeline::sam_window_attention", mutates_args=())
def window_attention(qkv: Tensor, bias: Tensor, terms: Tensor, side: int) -> Tensor:
    """(B, H, W, h·d): attention within windows, see `attend`."""
    return launch_windows(qkv, bias, terms, side, WINDOWS[0])


@torch.library.custom_op("pad_pipeline::sam_image_attention", mutates_args=())
def image_attention(qkv: Tensor, terms: Tensor) -> Tensor:
    """(B, H, W, h·d): attention within whole images, see `attend`."""
    return launch_images(qkv, terms, IMAGES[0])


def launch_windows(qkv: Tensor, bias: Tensor, terms: Tensor, side: int, launch: Launch) -> Tensor:
    """`window_attention` with these settings."""
    read = _read_like(qkv)
    batch, height, width, _, heads, features = qkv.shape
    first, second = _tiles(features)
    across = triton.cdiv(width, side)
    windows = across * triton.cdiv(height, side)
    windows_kernel[(windows, triton.cdiv(side * side, launch.queries), batch * heads)](
        qkv, bias, terms, read, height, width, across, features**-0.5 * _LOG2E,
        HEADS=heads, D1=first, D2=second, SIDE=side, P=places(side),
        BLOCK_M=launch.queries, BLOCK_N=launch.keys,
        num_warps=launch.warps, num_stages=launch.stages,
    )  # fmt: skip
    return read


def launch_images(qkv: Tensor, terms: Tensor, launch: Launch) -> Tensor:
    """`image_attention` with these settings."""
    read = _read_like(qkv)
    batch, height, width, _, heads, features = qkv.shape
    first, second = _tiles(features)
    images_kernel[(triton.cdiv(height * width, launch.queries), batch * heads)](
        qkv, terms, read, features**-0.5 * _LOG2E,
        HEADS=heads, D1=first, D2=second, SIDE=height, BLOCK_M=launch.queries,
        num_warps=launch.warps, num_stages=launch.stages,
    )  # fmt: skip
    return read


@position_terms.register_fake
def _(qkv: Tensor, rows: Tensor, columns: Tensor, side: int) -> Tensor:
    return _terms_like(qkv, side)


@window_attention.register_fake
def _(qkv: Tensor, bias: Tensor, terms: Tensor, side: int) -> Tensor:
    return _read_like(qkv)


@image_attention.register_fake
def _(qkv: Tensor, terms: Tensor) -> Tensor:
    return _read_like(qkv)


def _terms_like(qkv: Tensor, side: int) -> Tensor:
    batch, height, width, _, heads, _ = qkv.shape
    return qkv.new_empty((batch, height, width, heads, 2 * places(side)))


def _read_like(qkv: Tensor) -> Tensor:
    batch, height, width, _, heads, features = qkv.shape
    return qkv.new_empty((batch, height, width, heads * features))


def _tiles(features: int) -> tuple[int, int]:
    tiles = split_features(features)
    if tiles is None:
        raise ValueError(f"these kernels have no tiles for heads of {features} features")
    return tiles
