"""Attention over samples that stand one behind another in one sequence: each sees only itself.

transformers calls an attention function by its name; this one is registered under `PACKED`. No
mask is made and nothing is computed between samples: a GPU takes torch's kernels for sequences of
varying length, other devices (and float32) attend sample by sample.

Shapes: B rows (1 where packed), H heads, T tokens, E width of a head, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface

from pad_pipeline.errors import Setting, UserError

PACKED = "pad_packed"
"""The name of this attention in a model's config."""
_HALF = (torch.bfloat16, torch.float16)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention (B, T, H, E) of `query` (B, H, T, E) to the tokens of its own sample.

    `cu_seq_lens_q` (N + 1,) int32 holds the first token of every sample and the end, and
    `max_length_q` the tokens of the longest. Without them each row is one sample. There is no
    mask: rows are padded on the right.
    """
    assert attention_mask is None, "rows are padded on the right and have no mask"
    del module, others
    query, key = query.to(value.dtype), key.to(value.dtype)  # under autocast they differ
    if cu_seq_lens_q is None:
        out = _causal(query, key, value, scaling, dropout)
    elif has_varlen_kernels(value.device, value.dtype):
        assert not dropout, "the kernels have no dropout"
        assert max_length_q is not None, "samples have bounds and no longest one"
        query_THE, key_THE, value_THE = (
            each[0].transpose(0, 1).contiguous() for each in (query, key, value)
        )
        out_THE: Any = varlen_attn(
            query_THE,
            key_THE,
            value_THE,
            cu_seq_lens_q,
            cu_seq_lens_q,
            max_length_q,
            max_length_q,
            scale=scaling,
            window_size=(-1, 0),
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return out_THE[None], None
    else:
        by_sample: Any = _by_sample  # the decorator hides its parameters
        out = by_sample(query, key, value, cu_seq_lens_q, scaling, dropout)
    return out.transpose(1, 2).contiguous(), None


def has_varlen_kernels(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether torch has attention kernels for packed sequences on this device."""
    return (
        device.type == "cuda"
        and dtype in _HALF
        and torch.cuda.get_device_capability(device) >= (8, 0)
        and torch.backends.cuda.is_flash_attention_available()
    )


def sample_bounds(lengths: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
    """(bounds (N + 1,) int32, positions (1, T) int64) of samples of these lengths in one row.

    Positions count from 0 in every sample.
    """
    lengths_N = torch.tensor(lengths)
    ends_N = lengths_N.cumsum(0)
    bounds = torch.cat([ends_N.new_zeros(1), ends_N]).to(torch.int32)
    starts_T = (ends_N - lengths_N).repeat_interleave(lengths_N)
    positions_1T = (torch.arange(len(starts_T)) - starts_T)[None]
    return (
        bounds.to(device, non_blocking=True),
        positions_1T.to(device, non_blocking=True),
    )


def check_packable(llm_config: Any, max_length: int) -> None:
    """Raise `UserError` where samples of this language model cannot be packed exactly."""
    window = getattr(llm_config, "sliding_window", None)
    kinds = getattr(llm_config, "layer_types", None)
    is_windowed = kinds is None or "sliding_attention" in kinds
    if window and is_windowed and window < max_length:
        raise UserError(
            f"{llm_config.model_type} attends to the last {window} tokens only, which packed "
            "sequences do not; use ",
            Setting("max_length", window),
            " or ",
            Setting("pack_tokens", 0),
        )
    if getattr(llm_config, "attention_dropout", 0):
        raise UserError(
            f"{llm_config.model_type} drops attention weights, which packed sequences do not; use ",
            Setting("pack_tokens", 0),
        )


def _causal(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float
) -> Tensor:
    return functional.scaled_dot_product_attention(
        query,
        key,
        value,
        dropout_p=dropout,
        is_causal=True,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


@torch.compiler.disable
def _by_sample(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    scaling: float | None,
    dropout: float,
) -> Tensor:
    lengths = bounds.diff().tolist()
    parts = zip(*(each.split(lengths, dim=2) for each in (query, key, value)), strict=True)
    return torch.cat([_causal(q, k, v, scaling, dropout) for q, k, v in parts], dim=2)


AttentionInterface.register(PACKED, packed_attention)
