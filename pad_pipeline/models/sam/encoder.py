"""SAM's and SAM-HQ's image encoder with Triton kernels, for half precision on a GPU.

Between the layers go the residual and its norm, so that one kernel makes both; attention reads
the windows where they lie in the image.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionEncoderOutput

from pad_pipeline.models.epilogues import gelu_is_exact_enough, linear_gelu
from pad_pipeline.models.kernel_trial import try_kernel
from pad_pipeline.models.sam.attention import split_features
from pad_pipeline.models.sam.kernel_errors import (
    add_norm_error,
    allowed,
    attention_error,
)

logger = logging.getLogger(__name__)

CAPABILITY = (8, 0)
"""The oldest GPUs that the kernels are compiled for: A100 and later."""

DTYPES = (torch.bfloat16, torch.float16)


def use_kernels(encoder: Any) -> bool:
    """Let an encoder on a GPU run by `encode` where its kernels fit and work; else leave it.

    The encoder has its device and dtype. One line of the log says why it is left as it is; for
    float32 and CPUs, whose results are those of the original to 1e-4, nothing is said.
    """
    weight = encoder.layers[0].attn.qkv.weight
    if not weight.is_cuda or weight.dtype not in DTYPES:
        return False
    reason = why_not(encoder)
    if reason:
        logger.info("SAM's image encoder runs without its Triton kernels: %s", reason)
        return False
    shape = (encoder.config.num_attention_heads, head_features(encoder), grid(encoder))
    sides = {side(encoder, layer) for layer in encoder.layers}
    works = try_kernel(
        ("sam", str(weight.device), weight.dtype, *shape, *sorted(sides)),
        lambda: _kernels_agree(weight, *shape, sides),
        without="SAM's image encoder runs without its Triton kernels",
    )
    if works:
        mlp = encoder.layers[0].mlp
        in_epilogue = encoder.config.hidden_act == "gelu" and gelu_is_exact_enough(mlp.lin1)
        encoder.forward = partial(encode, encoder, gelu_in_epilogue=in_epilogue)
    return works


def why_not(encoder: Any) -> str:
    """What of the model or the GPU the kernels were not made for; empty where they fit."""
    weight, bias = encoder.layers[0].attn.qkv.weight, encoder.layers[0].attn.qkv.bias
    if not encoder.config.use_rel_pos or bias is None:
        return "the model has no relative positions, or no bias where keys are made"
    if split_features(head_features(encoder)) is None:
        return f"they have no tiles for heads of {head_features(encoder)} features"
    if weight.is_cuda and torch.cuda.get_device_capability(weight.device) < CAPABILITY:
        return "they are for GPUs of compute capability 8.0 and later"
    return ""


def _kernels_agree(like: Tensor, heads: int, features: int, size: int, sides: set[int]) -> bool:
    errors = [attention_error(like, heads, features, (size, size), side) for side in sorted(sides)]
    errors.append(add_norm_error(like, heads * features))
    return all(error <= allowed(like.dtype) for error in errors)


def encode(
    encoder: Any, pixel_values: Tensor, *, gelu_in_epilogue: bool = False
) -> SamHQVisionEncoderOutput:
    """The `forward` of transformers' `SamVisionEncoder` and `SamHQVisionEncoder`."""
    from pad_pipeline.models.norm_triton import add_norm

    hidden = encoder.patch_embed(pixel_values)
    if encoder.pos_embed is not None:
        hidden = hidden + encoder.pos_embed
    hidden = hidden.contiguous()  # one line of features after the other, as the kernels read them
    of_whole_images = []
    layers = list(encoder.layers)
    normed = layers[0].layer_norm1(hidden)
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        update = _attend(layer.attn, normed, side(encoder, layer))
        norm = layer.layer_norm2
        hidden, normed = add_norm(hidden, update, norm.weight, norm.bias, norm.eps)
        update = _feed_forward(layer.mlp, normed, gelu_in_epilogue)
        if following is None:
            hidden = hidden + update
        else:
            norm = following.layer_norm1
            hidden, normed = add_norm(hidden, update, norm.weight, norm.bias, norm.eps)
        if layer.window_size == 0:
            of_whole_images.append(hidden)
    return SamHQVisionEncoderOutput(
        last_hidden_state=encoder.neck(hidden), intermediate_embeddings=of_whole_images
    )


def side(encoder: Any, layer: Any) -> int:
    """Tokens along a side of what a layer's attention sees together."""
    return layer.window_size or grid(encoder)


def grid(encoder: Any) -> int:
    """Tokens along a side of an image."""
    return encoder.config.image_size // encoder.config.patch_size


def head_features(encoder: Any) -> int:
    """Features of one head of a layer's attention."""
    return encoder.config.hidden_size // encoder.config.num_attention_heads


def _attend(module: Any, normed: Tensor, side: int) -> Tensor:
    from pad_pipeline.models.sam.attention_ops import attend

    qkv = module.qkv(normed).unflatten(-1, (3, module.num_attention_heads, -1))
    return module.proj(attend(qkv, module.qkv.bias, module.rel_pos_h, module.rel_pos_w, side))


def _feed_forward(mlp: Any, normed: Tensor, gelu_in_epilogue: bool) -> Tensor:
    hidden = linear_gelu(mlp.lin1, normed) if gelu_in_epilogue else mlp.act(mlp.lin1(normed))
    return mlp.lin2(hidden)
