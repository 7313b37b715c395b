"""MobileSAM in the layout of the original `mobile_sam.pt`, for `MobileSam`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.sam.mobile import MobileSamConfig
from pad_pipeline.models.sam.state_dict import (
    DECODER_HEADS,
    SHARED_POSITIONS,
    count,
    decoder_sizes,
    prompt_sizes,
    to_transformers,
)

FIRST_CONVOLUTION = "image_encoder.patch_embed.seq.0"
"""What no other SAM has; its batch norm is folded into it or stands beside it."""

BATCH_NORM_EPS = 1e-5

PATCH = 4 * 2 * 2
"""Pixels along the side of a token: the patch embedding's and those of two strides."""

_UNUSED = re.compile(r"image_encoder\.(norm_head|head)\.(weight|bias)|.*\.num_batches_tracked")
"""TinyViT's classifier, which the released file holds and MobileSAM never runs, and counters of
training steps."""

_RENAMES = (
    (r"\.patch_embed\.seq\.", ".patch_embed."),
    (r"^vision_encoder\.layers\.", "vision_encoder.stages."),
    (r"\.mlp\.norm\.", ".mlp.0."),
    (r"\.mlp\.fc1\.", ".mlp.1."),
    (r"\.mlp\.fc2\.", ".mlp.3."),
    (r"\.attn\.ab$", ".attn.bias"),
)


def is_mobile_sam(state: Mapping[str, Tensor]) -> bool:
    """Whether these are the key names of a MobileSAM, with or without batch norms."""
    return any(key.startswith(FIRST_CONVOLUTION) for key in state)


def to_mobile_sam(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights under the names of `MobileSam`: batch norms folded, biases for each pair.

    Takes the released layout (`….c.weight` and `….bn.*`, `attention_biases` by distance) and one
    that was folded before (`….weight` and `….bias`, `ab` for every pair of tokens). Keys that
    belong to no MobileSAM pass through, so that strict loading reports them.
    """
    folded = _fold_batch_norms({k: v for k, v in state.items() if not _UNUSED.fullmatch(k)})
    for key in [key for key in folded if key.endswith(".attn.attention_biases")]:
        table = folded.pop(key)
        folded[key.removesuffix("attention_biases") + "ab"] = _bias_of_pairs(table)
    renamed = {}
    for key, tensor in to_transformers(folded).items():
        if key.startswith("vision_encoder."):
            for pattern, replacement in _RENAMES:
                key = re.sub(pattern, replacement, key)
        renamed[key] = tensor
    return renamed


def infer_mobile_config(
    state: Mapping[str, Tensor], *, source: str, decoder_heads: int = DECODER_HEADS
) -> MobileSamConfig:
    """The sizes of the model whose original state dict this is, read from its tensors' shapes.

    What no tensor shows, the input of 1,024 pixels and the strides, is as in the released model.
    Raises `UserError` naming `source` where a tensor is missing or has an impossible shape.
    """
    try:
        return _config_from_shapes(state, decoder_heads)
    except KeyError as error:
        raise UserError(
            f"{source} does not fit MobileSAM: {error.args[0]} is missing; expected the layout of "
            "mobile_sam.pt"
        ) from error
    except (ValueError, IndexError) as error:
        raise UserError(f"{source} does not fit MobileSAM: {error}") from error


def _config_from_shapes(state: Mapping[str, Tensor], decoder_heads: int) -> MobileSamConfig:
    layers = "image_encoder.layers"
    num_stages = count(state, r"image_encoder\.layers\.(\d+)\.")
    stages = range(num_stages)
    width = _convolution(state, FIRST_CONVOLUTION).shape[0] * 2
    hidden = [width] + [
        _convolution(state, f"{layers}.{index}.downsample.conv1").shape[0] for index in stages[:-1]
    ]
    attention = [_heads_and_window(state, f"{layers}.{index}.blocks.0.attn") for index in stages]
    inner = state[f"{layers}.{stages[-1]}.blocks.0.mlp.fc1.weight"].shape[0]
    vision = {
        "num_channels": _convolution(state, FIRST_CONVOLUTION).shape[1],
        "hidden_sizes": hidden,
        "depths": [
            count(state, rf"image_encoder\.layers\.{index}\.blocks\.(\d+)\.") for index in stages
        ],
        "num_attention_heads": [heads for heads, _ in attention],
        "window_sizes": [window for _, window in attention],
        "expand_ratio": _convolution(state, f"{layers}.0.blocks.0.conv1").shape[0] // width,
        "mlp_ratio": inner // hidden[-1],
        "output_channels": state["image_encoder.neck.0.weight"].shape[0],
        "num_pos_feats": state[SHARED_POSITIONS].shape[1],
    }
    return MobileSamConfig(
        vision_config=vision,
        prompt_encoder_config=prompt_sizes(state, 1024, PATCH),
        mask_decoder_config=decoder_sizes(state, decoder_heads),
    )


def _convolution(state: Mapping[str, Tensor], name: str) -> Tensor:
    return state[f"{name}.weight" if f"{name}.weight" in state else f"{name}.c.weight"]


def _heads_and_window(state: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """Of the attention of that name; (1, 1) for the first stage, which has none."""
    if f"{name}.qkv.weight" not in state:
        return 1, 1
    pairs = state.get(f"{name}.ab")
    if pairs is None:
        pairs = state[f"{name}.attention_biases"]
    heads, tokens = pairs.shape[:2]
    return heads, math.isqrt(tokens)


def _fold_batch_norms(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`NAME.c.weight` and `NAME.bn.*` to `NAME.weight` and `NAME.bias`, in double precision."""
    folded = dict(state)
    for key in state:
        name = key.removesuffix(".c.weight")
        parts = [f"{name}.bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        if name == key or not all(part in state for part in parts):
            continue
        scale, shift, mean, variance = (folded.pop(part).double() for part in parts)
        scale = scale / torch.sqrt(variance + BATCH_NORM_EPS)
        weight = folded.pop(key)
        folded[f"{name}.weight"] = (weight.double() * scale[:, None, None, None]).to(weight.dtype)
        folded[f"{name}.bias"] = (shift - mean * scale).to(weight.dtype)
    return folded


def _bias_of_pairs(table_HD: Tensor) -> Tensor:
    """(heads, N) by distance (rows, then columns) to (heads, N, N) for the tokens of a window."""
    side = math.isqrt(table_HD.shape[1])
    place = torch.arange(side)
    apart = (place[:, None] - place[None]).abs()
    rows = apart.repeat_interleave(side, 0).repeat_interleave(side, 1)
    index = rows * side + apart.repeat(side, side)
    return table_HD[:, index]
