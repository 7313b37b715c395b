"""Attention of SAM's image encoder with its relative positions, by torch's fused operator.

Legend of the shape suffixes: B images or windows, h heads, N = H·W tokens, K rows plus columns,
d features of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.sam.modeling_sam import SamVisionSdpaAttention
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionSdpaAttention

FOLDED_FROM = 1024
"""Tokens from which `attend_folded` is faster on a GPU: at the 4,096 of a whole image 2.6 times, at
the 196 of a window it is slower by a third (sizes of ViT-H, bfloat16, measured on an H100)."""


def use_fused_attention(encoder: Any) -> None:
    """Give the layers of a transformers SAM or SAM-HQ encoder that use SDPA `fused_forward`.

    What depends on the sizes alone is made here, so that no pass makes it again.
    """
    shared: dict[tuple[int, ...], Tensor] = {}
    for layer in encoder.layers:
        module = layer.attn
        if not isinstance(module, SamVisionSdpaAttention | SamHQVisionSdpaAttention):
            continue
        module.forward = MethodType(fused_forward, module)
        if not module.use_rel_pos:
            continue
        weight = module.qkv.weight
        height, width = side_of(module.rel_pos_h), side_of(module.rel_pos_w)
        made: dict[str, tuple[tuple[int, ...], Callable[..., Tensor]]] = {
            "row_distances": ((height,), distances),
            "column_distances": ((width,), distances),
        }
        if weight.is_cuda and height * width >= FOLDED_FROM:
            made["places"] = ((height, width), one_hot_places)
        for name, (sizes, make) in made.items():
            if sizes not in shared:
                shared[sizes] = make(*sizes, weight)
            module.register_buffer(name, shared[sizes], persistent=False)


def fused_forward(
    module: Any, hidden_states: Tensor, output_attentions: bool = False
) -> tuple[Tensor, None]:
    """The `forward` of transformers' `SamVisionSdpaAttention`: (B, H, W, D) to the same and None.

    There, an N × N table of position terms is made for every head and handed to the fused kernel,
    which for the 4,096 tokens of a whole image takes longer than the attention itself.
    """
    del output_attentions  # no fused kernel gives them
    batch, height, width, _ = hidden_states.shape
    qkv = module.qkv(hidden_states).unflatten(-1, (3, module.num_attention_heads, -1))
    query, key, value = qkv.flatten(1, 2).permute(2, 0, 3, 1, 4)
    if not module.use_rel_pos:
        read = F.scaled_dot_product_attention(query, key, value)
    else:
        to_rows, to_columns = position_terms(
            query,
            module.rel_pos_h[module.row_distances],
            module.rel_pos_w[module.column_distances],
        )
        places = getattr(module, "places", None)
        if places is None:
            read = attend_with_bias(query, key, value, to_rows, to_columns)
        else:
            read = attend_folded(query, key, value, to_rows, to_columns, places)
    return module.proj(read.transpose(1, 2).reshape(batch, height, width, -1)), None


def position_terms(query_BhNd: Tensor, rows_HHd: Tensor, columns_WWd: Tensor) -> list[Tensor]:
    """What each query adds for keys in every row, (B, h, N, H), and in every column, (B, h, N, W).

    `rows_HHd` has the relative position of each query's and key's row, likewise `columns_WWd`.
    The decomposed relative positions of MViTv2 (arXiv 2112.01526), equation 4.
    """
    query = query_BhNd.unflatten(2, (len(rows_HHd), len(columns_WWd)))
    return [
        torch.einsum("bhyxd,ykd->bhyxk", query, rows_HHd).flatten(2, 3),
        torch.einsum("bhyxd,xkd->bhyxk", query, columns_WWd).flatten(2, 3),
    ]


def attend_with_bias(
    query: Tensor, key: Tensor, value: Tensor, to_rows: Tensor, to_columns: Tensor
) -> Tensor:
    """Attention of BhNd with the terms as a bias of N × N: for few tokens, and on a CPU."""
    bias = to_rows[..., :, None] + to_columns[..., None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.flatten(-2))


def attend_folded(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    to_rows: Tensor,
    to_columns: Tensor,
    places_NK: Tensor,
) -> Tensor:
    """The same with the terms as K more features, and no table at all.

    q · k + r[row of k] + c[column of k] is the product of (q, r, c) and (k, one-hot row of k,
    one-hot column of k), the last two being `places_NK` of `one_hot_places`.
    """
    scale = query.shape[-1] ** -0.5
    folded_query = torch.cat([query, to_rows / scale, to_columns / scale], -1)
    folded_key = torch.cat([key, places_NK.expand(*key.shape[:2], -1, -1)], -1)
    return F.scaled_dot_product_attention(folded_query, folded_key, value, scale=scale)


def attend_in_windows(
    qkv: Tensor, bias: Tensor, rows: Tensor, columns: Tensor, side: int
) -> Tensor:
    """What `attention_ops.attend` computes, in torch's operators, to compare with."""
    batch, height, width, _, heads, features = qkv.shape
    down, across = -(-height // side), -(-width // side)
    padded = bias.view(3, heads, features).repeat(batch, down * side, across * side, 1, 1, 1)
    padded[:, :height, :width] = qkv
    windows = padded.view(batch, down, side, across, side, 3, heads, features)
    query, key, value = windows.permute(5, 0, 1, 3, 6, 2, 4, 7).reshape(
        3, -1, heads, side * side, features
    )
    between = distances(side, qkv)
    read = attend_with_bias(
        query, key, value, *position_terms(query, rows[between], columns[between])
    )
    read = read.view(batch, down, across, heads, side, side, features).permute(0, 1, 4, 2, 5, 3, 6)
    return read.reshape(batch, down * side, across * side, -1)[:, :height, :width]


def split_features(features: int) -> tuple[int, int] | None:
    """The two tiles that a head's features are held in; None where no two fit.

    80 features as 64 and 16 need 0.63 of the work of 128, to which one tile would be padded.
    """
    first = 1 << (features.bit_length() - 1)
    second = features - first
    fits = 16 <= first <= 128 and (second == 0 or (second >= 16 and second.bit_count() == 1))
    return (first, second) if fits else None


def side_of(table: Tensor) -> int:
    """Tokens along the axis that a table of 2·side - 1 relative positions is for."""
    return (len(table) + 1) // 2


def distances(side: int, like: Tensor) -> Tensor:
    """(side, side): the row of a table of relative positions for query and key along one axis."""
    place = torch.arange(side, device=like.device)
    return place[:, None] - place[None] + side - 1


def one_hot_places(height: int, width: int, like: Tensor) -> Tensor:
    """(N, K): the row of each token as a one-hot vector, then its column."""
    rows, columns = (
        torch.eye(size, dtype=like.dtype, device=like.device) for size in (height, width)
    )
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], -1)
