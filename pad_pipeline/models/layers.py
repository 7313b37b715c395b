"""Layers of the models as they run: several linear ones as one, and fused attention."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def join_linears(*layers: nn.Linear) -> nn.Linear:
    """The outputs of linear layers of one input side by side, by one product.

    One layer is itself; the weights of several are copied, and do not follow theirs.
    """
    if len(layers) == 1:
        return layers[0]
    zeros = (layer.weight.new_zeros(layer.out_features) for layer in layers)
    biases = [
        zero if layer.bias is None else layer.bias
        for layer, zero in zip(layers, zeros, strict=True)
    ]
    return linear_of(torch.cat([layer.weight for layer in layers]), torch.cat(biases))


def linear_of(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A linear layer of weight (out, in) and bias (out,), for inference."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer


def attend(
    query: Tensor, key: Tensor, value: Tensor, heads: int, bias: Tensor | None = None
) -> Tensor:
    """Attention of R sets of queries (R, Q, D) to keys and values (R, K, D), fused.

    `bias` is added to the scores: (R, heads or 1, Q or 1, K).
    """
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    return F.scaled_dot_product_attention(*split, attn_mask=bias).transpose(1, 2).flatten(2)
