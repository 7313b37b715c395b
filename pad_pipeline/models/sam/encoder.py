"""SAM's and SAM-HQ's image encoder with Triton kernels, for half precision on a GPU.

Between the layers go the residual and its norm, so that one kernel makes both; attention reads
the windows where they lie in the image.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionEncoderOutput

from pad_pipeline.models.epilogues import gelu_is_exact_enough, linear_gelu
from pad_pipeline.models.fp8 import ScaledLinear, ScaledRows
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
        in_epilogue = gelu_is_exact_enough(encoder.layers[0].mlp.lin1)
        encoder.forward = partial(encode, encoder, gelu_in_epilogue=in_epilogue)
    return works


def why_not(encoder: Any) -> str:
    """What of the model or the GPU the kernels were not made for; empty where they fit."""
    weight, bias = encoder.layers[0].attn.qkv.weight, encoder.layers[0].attn.qkv.bias
    if not encoder.config.use_rel_pos or bias is None:
        return "the model has no relative positions, or no bias where keys are made"
    if encoder.config.hidden_act != "gelu":
        return f"its activation is {encoder.config.hidden_act}, not gelu"
    if split_features(head_features(encoder)) is None:
        return f"they have no tiles for heads of {head_features(encoder)} features"
    if weight.is_cuda and torch.cuda.get_device_capability(weight.device) < CAPABILITY:
        return "they are for GPUs of compute capability 8.0 and later"
    return ""


def _kernels_agree(like: Tensor, heads: int, features: int, size: int, sides: set[int]) -> bool:
    errors = [attention_error(like, heads, features, (size, size), side) for side in sorted(sides)]
    errors.append(add_norm_error(like, heads * features))
    return all(error <= allowed(like.dtype) for error in errors)


def quantize_encoder(encoder: Any, *, emulate: bool = False) -> None:
    """Make the four linear layers of each layer but the first and last `ScaledLinear`.

    Position terms and softmax keep the encoder's dtype. `emulate` is `ScaledLinear`'s.
    """
    for layer in encoder.layers[1:-1]:
        for part, name in (
            (layer.attn, "qkv"), (layer.attn, "proj"), (layer.mlp, "lin1"), (layer.mlp, "lin2"),
        ):  # fmt: skip
            setattr(part, name, ScaledLinear(getattr(part, name), emulate=emulate))


def encode(
    encoder: Any, pixel_values: Tensor, *, gelu_in_epilogue: bool = False
) -> SamHQVisionEncoderOutput:
    """The `forward` of transformers' `SamVisionEncoder` and `SamHQVisionEncoder`."""
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
        hidden, normed = _add_norm(hidden, update, norm, layer.mlp.lin1)
        update = _feed_forward(layer.mlp, normed, gelu_in_epilogue)
        if following is None:
            hidden = hidden + update
        else:
            norm = following.layer_norm1
            hidden, normed = _add_norm(hidden, update, norm, following.attn.qkv)
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


def _attend(module: Any, normed: Tensor | ScaledRows, side: int) -> Tensor:
    from pad_pipeline.models.sam.attention_ops import attend

    qkv = module.qkv(normed).unflatten(-1, (3, module.num_attention_heads, -1))
    read = attend(qkv, module.qkv.bias, module.rel_pos_h, module.rel_pos_w, side)
    return module.proj(_scaled(read) if isinstance(module.proj, ScaledLinear) else read)


def _feed_forward(mlp: Any, normed: Tensor | ScaledRows, gelu_in_epilogue: bool) -> Tensor:
    if isinstance(normed, ScaledRows):
        return mlp.lin2(_scaled(mlp.lin1(normed), gelu=True))
    hidden = linear_gelu(mlp.lin1, normed) if gelu_in_epilogue else mlp.act(mlp.lin1(normed))
    return mlp.lin2(hidden)


def _add_norm(
    residual: Tensor, update: Tensor, norm: nn.LayerNorm, reader: nn.Module
) -> tuple[Tensor, Tensor | ScaledRows]:
    """The sum, and its norm as the layer that reads it multiplies."""
    from pad_pipeline.models.fp8_triton import add_norm_scaled
    from pad_pipeline.models.norm_triton import add_norm

    arguments = (residual, update, norm.weight, norm.bias, norm.eps)
    if isinstance(reader, ScaledLinear):
        total, values, scales = add_norm_scaled(*arguments)
        return total, ScaledRows(values, scales)
    return add_norm(*arguments)


def _scaled(x: Tensor, *, gelu: bool = False) -> ScaledRows:
    from pad_pipeline.models.fp8_triton import scale_rows

    return ScaledRows(*scale_rows(x, gelu))
