"""Attention of SAM's image encoder with its relative positions, fused.

Legend of the shape suffixes: B images or windows, h heads, N = H·W tokens, K rows plus columns,
d features of a head.
"""

from __future__ import annotations

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
    """Give the layers of a transformers SAM or SAM-HQ encoder that use SDPA `fused_forward`."""
    for layer in encoder.layers:
        if isinstance(layer.attn, SamVisionSdpaAttention | SamHQVisionSdpaAttention):
            layer.attn.forward = MethodType(fused_forward, layer.attn)


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
        to_rows, to_columns = position_terms(module, query, height, width)
        whole_image = height * width >= FOLDED_FROM
        attend = attend_folded if query.is_cuda and whole_image else attend_with_bias
        read = attend(query, key, value, to_rows, to_columns)
    return module.proj(read.transpose(1, 2).reshape(batch, height, width, -1)), None


def position_terms(module: Any, query_BhNd: Tensor, height: int, width: int) -> list[Tensor]:
    """What each query adds for keys in every row, (B, h, N, H), and in every column, (B, h, N, W).

    The decomposed relative positions of MViTv2 (arXiv 2112.01526), equation 4.
    """
    query = query_BhNd.unflatten(2, (height, width))
    return [
        torch.einsum(equation, query, table[_distances(size, table.device)]).flatten(2, 3)
        for equation, table, size in (
            ("bhyxd,ykd->bhyxk", module.rel_pos_h, height),
            ("bhyxd,xkd->bhyxk", module.rel_pos_w, width),
        )
    ]


def attend_with_bias(
    query: Tensor, key: Tensor, value: Tensor, to_rows: Tensor, to_columns: Tensor
) -> Tensor:
    """Attention of BhNd with the terms as a bias of N × N: for few tokens, and on a CPU."""
    bias = to_rows[..., :, None] + to_columns[..., None, :]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias.flatten(-2))


def attend_folded(
    query: Tensor, key: Tensor, value: Tensor, to_rows: Tensor, to_columns: Tensor
) -> Tensor:
    """The same with the terms as K more features, and no table at all.

    q · k + r[row of k] + c[column of k] is the product of (q, r, c) and (k, one-hot row of k,
    one-hot column of k).
    """
    scale = query.shape[-1] ** -0.5
    height, width = to_rows.shape[-1], to_columns.shape[-1]
    folded_query = torch.cat([query, to_rows / scale, to_columns / scale], -1)
    places = _places(height, width, key)
    folded_key = torch.cat([key, places.expand(*key.shape[:2], -1, -1)], -1)
    return F.scaled_dot_product_attention(folded_query, folded_key, value, scale=scale)


def _distances(size: int, device: torch.device) -> Tensor:
    """(size, size): the row of a table of relative positions for query and key along one axis."""
    place = torch.arange(size, device=device)
    return place[:, None] - place[None] + size - 1


def _places(height: int, width: int, like: Tensor) -> Tensor:
    """(N, K): the row of each token as a one-hot vector, then its column."""
    rows, columns = (
        torch.eye(size, dtype=like.dtype, device=like.device) for size in (height, width)
    )
    return torch.cat([rows.repeat_interleave(width, 0), columns.repeat(height, 1)], -1)
