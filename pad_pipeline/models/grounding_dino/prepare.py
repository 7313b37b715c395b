"""transformers' Grounding DINO made ready to run with as few launches as its weights allow.

Two weight matrices that the original applies one after the other to a text's tokens are multiplied
here once (`fold_fusion`), and linear layers that read the same input are one. All of it is the
model's arithmetic up to rounding; the modules that are left are transformers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import SwinBackbone

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.grounding_dino.deformable_attention import PointReader
from pad_pipeline.models.grounding_dino.network import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    Fusion,
    Network,
    Perceptron,
    Sines,
)
from pad_pipeline.models.layers import join_linears, linear_of
from pad_pipeline.models.swin_forward import prepare_swin

MAX_CONSTANT_BYTES = 256 * 2**20
"""What is kept of sizes from pass to pass, and again of windows: some twenty of 800 pixels."""

MAX_PHRASE_BYTES = 64 * 2**20
"""What of phrases is kept: 60,000 tokens of the released models, RAM's tags four times over."""


@torch.no_grad()
def prepare_network(model: Any) -> Network:
    """A `GroundingDinoForObjectDetection` (or `MMGroundingDino…`) on its device, in its dtype.

    What is made of its weights here does not follow them when they change.
    """
    core, config = model.model, model.config
    backbone = core.backbone.conv_encoder.model
    is_swin = isinstance(backbone, SwinBackbone)
    device = core.level_embed.device
    width = config.d_model
    lines = torch.arange(config.max_text_len, dtype=torch.float32, device=device)[:, None]
    text_positions = Sines.of(width, 10000, device)(lines)
    texts = [layer.encoder_attn_text for layer in core.decoder.layers]
    return Network(
        model,
        prepare_swin(backbone.swin, dict(backbone.hidden_states_norms)) if is_swin else None,
        tuple(_encoder_layer(layer) for layer in core.encoder.layers),
        tuple(
            _decoder_layer(layer, head)
            for layer, head in zip(core.decoder.layers, model.bbox_embed, strict=True)
        ),
        join_linears(*(part for text in texts for part in (text.key, text.value))),
        _box_positions(core.decoder.reference_points_head, width // 2),
        _perceptron(core.encoder_output_bbox_embed),
        Sines.of(width // 2, 10000, device),
        Sines.of(width // 2, config.positional_embedding_temperature, device),
        text_positions.to(core.level_embed.dtype),
        Constants(MAX_CONSTANT_BYTES),
        Constants(MAX_CONSTANT_BYTES),
        Constants(MAX_PHRASE_BYTES),
    )


def _encoder_layer(layer: Any) -> EncoderLayer:
    text, vision = layer.text_enhancer_layer, layer.deformable_layer
    return EncoderLayer(
        fold_fusion(layer.fusion_layer),
        _attention(text.self_attn),
        text.layer_norm_before,
        FeedForward(text.fc1, text.fc2, text.layer_norm_after),
        PointReader.of(vision.self_attn),
        vision.self_attn_layer_norm,
        FeedForward(vision.fc1, vision.fc2, vision.final_layer_norm),
    )


def _decoder_layer(layer: Any, head: Any) -> DecoderLayer:
    text = layer.encoder_attn_text
    return DecoderLayer(
        _attention(layer.self_attn),
        layer.self_attn_layer_norm,
        text.query,
        text.out_proj,
        layer.encoder_attn_text_layer_norm,
        PointReader.of(layer.encoder_attn),
        layer.encoder_attn_layer_norm,
        FeedForward(layer.fc1, layer.fc2, layer.final_layer_norm),
        _perceptron(head),
        text.num_attention_heads,
    )


def _attention(module: Any) -> Attention:
    query_key = join_linears(module.query, module.key)
    return Attention(query_key, module.value, module.out_proj, module.num_attention_heads)


def _perceptron(head: Any) -> Perceptron:
    *hidden, output = head.layers
    return Perceptron(tuple(hidden), output)


def _box_positions(head: Any, width: int) -> Perceptron:
    """The head that reads the sines of a box as y, x, width, height, for x, y, width, height."""
    first, output = head.layers
    y, x, *extent = first.weight.detach().split(width, dim=1)
    hidden = linear_of(torch.cat([x, y, *extent], 1), first.bias.detach())
    return Perceptron((hidden,), output)


def fold_fusion(layer: Any) -> Fusion:
    """The fusion's weights, multiplied with one another in float32 and with its scales.

    Every matrix that the original applies to the thousands of vision tokens stands beside one that
    is applied to the few text tokens, so that the image side needs none of its own: the similarity
    (W_v v + b_v) · (W_t t + b_t) is v · (W_vᵀ W_t t + …) + b_v · (W_t t + b_t), and what the image
    reads, W_o Σ p (W t + b), is Σ p (W_o W t + …). `of_text` makes of a text token, for every head,
    the vector that vision tokens are multiplied with, the one that they read, and the bias of the
    similarity; as the weights p of a head add up to 1, the bias of W_o is in what is read.
    `to_text` makes of what the text has read of the image, by head, what is added to it.
    """
    attn = layer.attn
    split = (attn.num_heads, attn.head_dim)

    def rows(linear: Any) -> tuple[Tensor, Tensor]:
        """(heads, head width, D) weight and (heads, head width) bias."""
        weight = linear.weight.detach().float().unflatten(0, split)
        return weight, linear.bias.detach().float().unflatten(0, split)

    def columns(linear: Any, scale: Tensor) -> tuple[Tensor, Tensor]:
        """(D, heads, head width) weight and (D,) bias of a layer whose output is scaled."""
        scale = scale.detach().float()
        weight = linear.weight.detach().float() * scale[:, None]
        return weight.unflatten(1, split), linear.bias.detach().float() * scale

    (key, key_bias), (query, query_bias) = rows(attn.text_proj), rows(attn.vision_proj)
    key, key_bias = key * attn.scale, key_bias * attn.scale
    (value, value_bias), (out, out_bias) = (
        rows(attn.values_text_proj),
        columns(attn.out_vision_proj, layer.vision_param),
    )
    weights = [
        torch.einsum("hed,het->hdt", query, key).flatten(0, 1),
        torch.einsum("dhe,het->hdt", out, value).flatten(0, 1),
        torch.einsum("he,het->ht", query_bias, key),
    ]
    biases = [
        torch.einsum("hed,he->hd", query, key_bias).flatten(),
        (torch.einsum("dhe,he->hd", out, value_bias) + out_bias / attn.num_heads).flatten(),
        torch.einsum("he,he->h", query_bias, key_bias),
    ]
    (read, read_bias), (to_text, to_text_bias) = (
        rows(attn.values_vision_proj),
        columns(attn.out_text_proj, layer.text_param),
    )
    back = torch.einsum("the,hed->thd", to_text, read).flatten(1)
    back_bias = torch.einsum("the,he->t", to_text, read_bias) + to_text_bias
    dtype = attn.text_proj.weight.dtype
    return Fusion(
        layer.layer_norm_vision,
        layer.layer_norm_text,
        linear_of(torch.cat(weights).to(dtype), torch.cat(biases).to(dtype)),
        linear_of(back.to(dtype), back_bias.to(dtype)),
        attn.num_heads,
    )
