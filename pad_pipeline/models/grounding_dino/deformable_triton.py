"""The gather of deformable attention as one Triton kernel, for GPUs.

Triton comes with torch's CUDA build; without it `deformable_attention` does the same with torch's
operators, which takes a dozen passes over tables of 64 places and weights for every head of every
query.
"""

# Triton's kernels are called by other names and types than they are declared with.
# pyright: reportCallIssue=false, reportArgumentType=false, reportIndexIssue=false
from __future__ import annotations

import torch
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

BLOCK = 32
"""Queries per program."""


def sample_points(
    value_RSD: Tensor,
    offsets: Tensor,
    attention: Tensor,
    reference: Tensor,
    starts: Tensor,
    sizes: Tensor,
) -> Tensor:
    """The weighted sum of the features at every query's points, (R, Q, D); no gradients.

    `offsets` are (R, Q, heads, L, P, 2) in tokens, `attention` (R, Q, heads, L, P) before its
    softmax over L and P, both may be parts of one (R, Q, …) tensor; `reference` is (R or 1, Q, L or
    1, 2 or 4) float32 as in `deformable_attention`; `starts` (L, 1) int32 are the maps' first
    tokens and `sizes` (L, 2) float32 their width and height. Sums are float32 whatever the values
    are. No input is copied: a query's offsets, weights and reference are dense each, and read at
    the tensors' own strides.
    """
    num_rows, num_queries, heads, num_levels, points = attention.shape
    num_tokens, width = value_RSD.shape[1:]
    read = torch.empty(
        (num_rows, num_queries, width), dtype=value_RSD.dtype, device=value_RSD.device
    )
    reference = reference.expand(num_rows, num_queries, num_levels, -1)
    offsets, attention = (_dense_by_query(part) for part in (offsets, attention))
    grid = (triton.cdiv(num_queries, BLOCK), heads, num_rows)
    _sample[grid](
        value_RSD.contiguous(),
        offsets,
        attention,
        reference,
        starts,
        sizes,
        read,
        num_queries,
        num_tokens,
        offsets.stride(1),
        attention.stride(1),
        *reference.stride()[:3],
        HEADS=heads,
        WIDTH=width // heads,
        LEVELS=num_levels,
        POINTS=points,
        SIDES=reference.shape[-1],
        BLOCK=BLOCK,
        WIDTH_2=triton.next_power_of_2(width // heads),
        PLACES_2=triton.next_power_of_2(num_levels * points),
    )
    return read


def _dense_by_query(part: Tensor) -> Tensor:
    """(R, Q, …) whose queries are dense and equally far apart; a copy only where they are not."""
    dense = part[0, 0].is_contiguous() and part.stride(0) == part.shape[1] * part.stride(1)
    return part if dense else part.contiguous()


@triton.jit
def _sample(
    value,
    offsets,
    attention,
    reference,
    starts,
    sizes,
    read,
    num_queries,
    num_tokens,
    offsets_stride,
    attention_stride,
    reference_row,
    reference_query,
    reference_level,
    HEADS: tl.constexpr,
    WIDTH: tl.constexpr,
    LEVELS: tl.constexpr,
    POINTS: tl.constexpr,
    SIDES: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDTH_2: tl.constexpr,
    PLACES_2: tl.constexpr,
):
    """One head of `BLOCK` queries of a row. The powers of two round up what tiles are made of."""
    query = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    head = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    valid = query < num_queries
    cell = row * num_queries + query
    feature = tl.arange(0, WIDTH_2)
    places: tl.constexpr = LEVELS * POINTS

    # the softmax's maximum and sum; its weights are made where they are used
    place = tl.arange(0, PLACES_2)
    own = attention + cell * attention_stride + head * places
    logits = tl.load(
        own[:, None] + place[None, :],
        mask=valid[:, None] & (place < places)[None, :],
        other=-float("inf"),
    ).to(tl.float32)
    largest = tl.where(valid, tl.max(logits, axis=1), 0.0)
    total = tl.where(valid, tl.sum(tl.exp(logits - largest[:, None]), axis=1), 1.0)

    moves = offsets + cell * offsets_stride + head * places * 2
    base = value + (row * num_tokens * HEADS + head) * WIDTH
    found = tl.zeros((BLOCK, WIDTH_2), dtype=tl.float32)
    for level in range(LEVELS):
        columns = tl.load(sizes + level * 2)
        lines = tl.load(sizes + level * 2 + 1)
        start = tl.load(starts + level)
        here = reference + row * reference_row + query * reference_query + level * reference_level
        centre_x = tl.load(here, mask=valid, other=0.0) * columns - 0.5
        centre_y = tl.load(here + 1, mask=valid, other=0.0) * lines - 0.5
        reach_x, reach_y = 1.0, 1.0
        if SIDES == 4:
            reach_x = tl.load(here + 2, mask=valid, other=0.0) * columns * (0.5 / POINTS)
            reach_y = tl.load(here + 3, mask=valid, other=0.0) * lines * (0.5 / POINTS)
        for point in tl.static_range(POINTS):
            index = level * POINTS + point
            logit = tl.load(own + index, mask=valid, other=0.0).to(tl.float32)
            weight = tl.exp(logit - largest) / total
            move_x = tl.load(moves + index * 2, mask=valid, other=0.0).to(tl.float32)
            move_y = tl.load(moves + index * 2 + 1, mask=valid, other=0.0).to(tl.float32)
            x, y = centre_x + move_x * reach_x, centre_y + move_y * reach_y
            left, top = tl.floor(x), tl.floor(y)
            for corner in tl.static_range(4):  # pyright: ignore[reportGeneralTypeIssues]
                at_x, at_y = left + corner % 2, top + corner // 2
                share = (1.0 - tl.abs(x - at_x)) * (1.0 - tl.abs(y - at_y)) * weight
                inside = valid & (at_x >= 0) & (at_x < columns) & (at_y >= 0) & (at_y < lines)
                share = tl.where(inside, share, 0.0)
                token = tl.where(inside, start + at_y * columns + at_x, 0.0).to(tl.int32)
                values = tl.load(
                    base + (token * (HEADS * WIDTH))[:, None] + feature[None, :],
                    mask=inside[:, None] & (feature < WIDTH)[None, :],
                    other=0.0,
                )
                found += share[:, None] * values.to(tl.float32)
    tl.store(
        read + ((cell * HEADS + head) * WIDTH)[:, None] + feature[None, :],
        found.to(read.dtype.element_ty),
        mask=valid[:, None] & (feature < WIDTH)[None, :],
    )
