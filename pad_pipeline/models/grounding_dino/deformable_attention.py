"""Multi-scale deformable attention as one weighted gather."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pad_pipeline.models.device_image import upload
from pad_pipeline.models.kernel_trial import kernel_works, try_kernel
from pad_pipeline.models.layers import join_linears

_KERNEL = "deformable attention"

# Legend: R rows of the batch, S vision tokens of all levels, Q queries, H heads, L levels,
# P points per head and level, D features, d features per head.


@dataclass(frozen=True, slots=True)
class Levels:
    """The (height, width) `shapes` of the maps that the vision tokens run through, one by one.

    As tensors on the model's device: `sizes` (L, 2) float32 width and height;
    `starts`, `heights` and `widths` (L, 1) int32, the first being each map's first token.
    """

    shapes: tuple[tuple[int, int], ...]
    sizes: Tensor
    starts: Tensor
    heights: Tensor
    widths: Tensor

    @classmethod
    def of(cls, shapes: Sequence[tuple[int, int]], device: torch.device) -> Levels:
        """The levels of these shapes."""
        starts = [0]
        for height, width in shapes[:-1]:
            starts.append(starts[-1] + height * width)
        rows = [(start, h, w) for start, (h, w) in zip(starts, shapes, strict=True)]
        table = np.array(rows, np.int32)
        columns = (upload(table[:, column, None], device) for column in range(3))
        return cls(tuple(shapes), upload(table[:, [2, 1]].astype(np.float32), device), *columns)


def try_deformable_kernel(device: str | torch.device) -> bool:
    """Whether the Triton kernel can be built and run for a GPU; tried once in a process.

    Where it can, `deformable_attention` uses it from here on; where not, a warning says why.
    """
    return try_kernel(
        _KERNEL,
        lambda: _kernel_agrees(torch.device(device)),
        without="Grounding DINO runs without its Triton kernel",
    )


def _kernel_agrees(device: torch.device) -> bool:
    """Whether the kernel reads ones from a map of ones."""
    from pad_pipeline.models.grounding_dino.deformable_triton import sample_points

    levels = Levels.of([(2, 2)], device)
    read = sample_points(
        torch.ones(1, 4, 8, device=device),
        torch.zeros(1, 1, 1, 1, 1, 2, device=device),
        torch.zeros(1, 1, 1, 1, 1, device=device),
        torch.full((1, 1, 1, 2), 0.5, device=device),
        levels.starts,
        levels.sizes,
    )
    return bool((read.cpu() - 1).abs().max() < 1e-6)


@dataclass(frozen=True, slots=True)
class PointReader:
    """The layers of a deformable attention: of the tokens' `value`, of a query's `points`.

    `points` gives, for every head, level and point, two offsets and one weight before its softmax:
    first all offsets (heads, L, P, 2), then all weights (heads, L, P).
    """

    value: nn.Module
    points: nn.Linear
    output: nn.Module
    shape: tuple[int, int, int]

    @classmethod
    def of(cls, module: Any) -> PointReader:
        """Those of transformers' `GroundingDinoMultiscaleDeformableAttention`."""
        return cls(
            module.value_proj,
            join_linears(module.sampling_offsets, module.attention_weights),
            module.output_proj,
            (module.n_heads, module.n_levels, module.n_points),
        )


def deformable_attention(
    reader: PointReader,
    queries_RQD: Tensor,
    vision_RSD: Tensor,
    reference: Tensor,
    levels: Levels,
    padding_RS: Tensor | None,
) -> Tensor:
    """Every query's weighted sum of features at points around its reference, (R, Q, D).

    `reference` is float32, (R or 1, Q, L or 1, 2) x, y or (R or 1, Q, L or 1, 4) centre x, y,
    width, height in 0–1 of the map of each of the `levels`; tokens where `padding_RS` holds read as
    zeros. Points are placed in float32 whatever the model's type: bfloat16 has 8 bits, which is a
    whole token at 256 tokens. Deformable DETR (arXiv 2010.04159), equation 3.
    """
    value = reader.value(vision_RSD)
    if padding_RS is not None:
        value = value.masked_fill(padding_RS[..., None], 0.0)
    points = reader.points(queries_RQD)
    num_offsets = 2 * math.prod(reader.shape)
    offsets = points[..., :num_offsets].unflatten(-1, (*reader.shape, 2))
    attention = points[..., num_offsets:].unflatten(-1, reader.shape)
    if value.is_cuda and kernel_works(_KERNEL) and not torch.is_grad_enabled():
        from pad_pipeline.models.grounding_dino.deformable_triton import sample_points

        read = sample_points(value, offsets, attention, reference, levels.starts, levels.sizes)
    else:
        read = sample_points_with_torch(value, offsets, attention, reference, levels)
    return reader.output(read)


def sample_points_with_torch(
    value_RSD: Tensor, offsets: Tensor, attention: Tensor, reference: Tensor, levels: Levels
) -> Tensor:
    """`deformable_triton.sample_points` in torch's operators, for any device, with gradients."""
    num_rows, num_queries, heads, num_levels, points = attention.shape
    num_tokens, width = value_RSD.shape[1:]
    offsets = offsets.float()
    attention = attention.float().flatten(-2).softmax(-1).view(attention.shape)
    centre = reference[:, :, None, :, None, :2]
    sizes = levels.sizes[:, None]
    if reference.shape[-1] == 2:
        # in tokens from here on; the offsets are in tokens of their level already
        xy = centre * sizes + offsets
    else:
        extent = reference[:, :, None, :, None, 2:] * sizes
        xy = centre * sizes + offsets / points * extent * 0.5
    indices, weights = _corners(xy - 0.5, attention, levels, num_tokens)
    # every head of every query is a bag of L·P·4 tokens: embedding_bag adds them up without ever
    # holding the sampled features, several times faster than grid_sample on a CPU
    read = F.embedding_bag(
        indices.view(-1, num_levels * points * 4),
        value_RSD.view(num_rows * num_tokens * heads, width // heads),
        mode="sum",
        per_sample_weights=weights.view(-1, num_levels * points * 4).to(value_RSD.dtype),
    )
    return read.view(num_rows, num_queries, width)


def _corners(
    xy: Tensor, attention: Tensor, levels: Levels, num_tokens: int
) -> tuple[Tensor, Tensor]:
    """Row of the (R·S·H, d) values and weight of the 4 tokens around each point, RQHLP4 each.

    Bilinear, zero outside. `xy` RQHLP2 counts tokens, 0 being the middle of the first.
    """
    device = xy.device
    num_rows, _, heads = xy.shape[:3]
    low = xy.floor()
    part_x, part_y = (xy - low).unbind(-1)
    # far-off points would overflow int32; all that lie outside read zeros anyway
    x0, y0 = low.clamp(-2, 2**20).to(torch.int32).unbind(-1)
    columns, weights_x = _axis(x0, part_x, levels.widths)
    lines, weights_y = _axis(y0, part_y, levels.heights)
    weights_y = [weight * attention for weight in weights_y]
    head = torch.arange(heads, dtype=torch.int32, device=device)[:, None, None]
    row = torch.arange(num_rows, dtype=torch.int32, device=device).view(-1, 1, 1, 1, 1)
    origin = (row * num_tokens + levels.starts) * heads + head
    lines = [line * (levels.widths * heads) + origin for line in lines]
    columns = [column * heads for column in columns]
    pairs = [(i, j) for i in range(2) for j in range(2)]
    return (
        torch.stack([lines[i] + columns[j] for i, j in pairs], -1),
        torch.stack([weights_y[i] * weights_x[j] for i, j in pairs], -1),
    )


def _axis(low: Tensor, part: Tensor, size: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """The two neighbours along one axis, moved inside, and their weights, 0 where outside."""
    high = low + 1
    weights = [(1 - part) * ((low >= 0) & (low < size)), part * ((high >= 0) & (high < size))]
    return [place.clamp(min=0).minimum(size - 1) for place in (low, high)], weights
