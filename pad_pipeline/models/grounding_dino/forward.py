"""Grounding DINO from encoded images and texts to boxes, over transformers' modules.

Written out here, and not left to transformers' `forward`, for five reasons: an image that has
several prompts passes the backbone once (see `encode`), boxes and their heads stay
in float32 whatever the model's type, the clamp of the inverse sigmoid is the original's, images
with fewer tokens than queries work, and attention runs fused. In float32 the results are those of
the original code.

Legend of the shape suffixes: R rows (pairs of an image and a text), S vision tokens of all levels,
T text tokens, D features, Q queries.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.models.grounding_dino.deformable_attention import deformable_attention
from pad_pipeline.models.grounding_dino.encode import Images, Texts, sine

LOGIT_EPS = {"grounding-dino": 1e-3, "mm-grounding-dino": 1e-5}
"""By `model_type`: where the inverse sigmoid is cut off, as in the code each was trained with."""


@dataclass(frozen=True, slots=True)
class Steps:
    """What the layers compute: fusion, text and image part of the encoder's, and the decoder's."""

    fusion: Callable[..., tuple[Tensor, Tensor]]
    enhance_text: Callable[..., Tensor]
    deformable_attention: Callable[..., Tensor]
    decode: Callable[..., Tensor]


@dataclass(frozen=True, slots=True)
class TopTokens:
    """The vision tokens that match the text best, best first.

    Their `scores` RQ and `indices` RQ, the `boxes` RQ4 around them as logits, and `features` RQD.
    """

    scores: Tensor
    indices: Tensor
    boxes: Tensor
    features: Tensor


def compiled_steps(backend: str = "inductor") -> Steps:
    """The steps compiled, each once for all its layers and all sizes of images and texts."""
    compiled = partial(torch.compile, dynamic=True, backend=backend)
    return Steps(
        compiled(_fusion),
        compiled(_enhance_text),
        compiled(_deformable_attention),
        compiled(_decode),
    )


def detect_pairs(
    model: Any, images: Images, texts: Texts, steps: Steps | None = None
) -> tuple[Tensor, Tensor]:
    """Logits RQT, −inf at padding, and boxes RQ4 (centre x, y, width, height in 0–1), float32.

    Row r of `images` goes with row r of `texts`. Boxes are relative to the image without its
    padding. There are `num_queries` queries, or as many as tokens where those are fewer.
    """
    steps = steps or Steps(_fusion, _enhance_text, _deformable_attention, _decode)
    core, eps = model.model, LOGIT_EPS[model.config.model_type]
    vision, text = images.tokens, texts.tokens
    centres = _centres(images)
    for layer in core.encoder.layers:
        vision, text = steps.fusion(layer.fusion_layer, vision, text, images.padding, texts.padding)
        text = steps.enhance_text(layer.text_enhancer_layer, text, texts)
        vision = steps.deformable_attention(layer.deformable_layer, vision, centres, images)
    hidden, boxes = init_queries(model, select_tokens(model, vision, text, images, texts))
    scale = torch.cat([images.valid, images.valid], -1)[:, None]
    for index, layer in enumerate(core.decoder.layers):
        if index:
            boxes = refine_boxes(core.decoder.bbox_embed[index - 1], hidden, boxes, eps)
        reference = boxes[:, :, None] * scale
        position = sine(reference[:, :, 0], core.config.d_model // 2).to(hidden.dtype)
        position = core.decoder.reference_points_head(position)
        hidden = steps.decode(layer, hidden, position, reference, vision, text, images, texts)
    hidden = core.decoder.layer_norm(hidden)
    logits = _similarity(model.class_embed[-1], hidden, text, texts.padding)
    return logits, refine_boxes(model.bbox_embed[-1], hidden, boxes, eps)


def select_tokens(
    model: Any, vision: Tensor, text: Tensor, images: Images, texts: Texts
) -> TopTokens:
    """The `num_queries` tokens of the encoder's output that match the text best."""
    core = model.model
    proposals, outside = _proposals(images)
    candidates = core.enc_output_norm(core.enc_output(vision.masked_fill(outside, 0.0)))
    logits = _similarity(core.encoder_output_class_embed, candidates, text, texts.padding)
    num_queries = min(core.config.num_queries, vision.shape[1])
    scores, best = logits.amax(-1).topk(num_queries, dim=1)
    features = candidates.gather(1, best[..., None].expand(-1, -1, candidates.shape[-1]))
    shift = core.encoder_output_bbox_embed(features.float())
    boxes = shift + proposals.gather(1, best[..., None].expand(-1, -1, 4))
    return TopTokens(scores, best, boxes, features)


def init_queries(model: Any, top: TopTokens) -> tuple[Tensor, Tensor]:
    """The decoder's first queries RQD and boxes RQ4.

    The order of the tokens matters: the learned queries are handed out in it.
    """
    core, queries = model.model, top.features
    if core.config.embedding_init_target:
        learned = core.query_position_embeddings.weight[: queries.shape[1]]
        queries = learned.expand(len(queries), -1, -1)
    return queries, top.boxes.sigmoid()


def refine_boxes(head: Any, hidden: Tensor, boxes: Tensor, eps: float) -> Tensor:
    """The boxes RQ4 moved by what a box head reads in the queries, in float32."""
    return (head(hidden.float()) + inverse_sigmoid(boxes, eps)).sigmoid()


def inverse_sigmoid(share: Tensor, eps: float) -> Tensor:
    """log(x / (1 − x)) with both sides kept at `eps` or more."""
    share = share.clamp(0, 1)
    return (share.clamp(min=eps) / (1 - share).clamp(min=eps)).log()


def _fusion(
    layer: Any, vision: Tensor, text: Tensor, no_vision: Tensor | None, no_text: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Image reads text and text reads image through one similarity; added to the normed inputs.

    Every matrix that the original applies to the thousands of vision tokens stands beside one that
    is applied to the few text tokens, so the two are multiplied first (`folded_query`,
    `folded_value`, and the values of `to_text` after the sum): the same numbers for a sixth to a
    half of the work. h below counts heads, e features of a head.
    """
    vision, text = layer.layer_norm_vision(vision), layer.layer_norm_text(text)
    attn = layer.attn
    split = (attn.num_heads, attn.head_dim)
    key_RThe = (attn.text_proj(text) * attn.scale).unflatten(-1, split)
    query = attn.vision_proj
    folded_query = torch.einsum(
        "rthe,hed->rdht", key_RThe, query.weight.unflatten(0, split)
    ).flatten(2)
    bias = torch.einsum("rthe,he->rht", key_RThe, query.bias.unflatten(0, split)).flatten(1)
    similarity = torch.baddbmm(bias[:, None], vision, folded_query)  # R, S, h·T

    by_vision = similarity.unflatten(-1, (attn.num_heads, -1))
    if no_text is not None:
        by_vision = by_vision.masked_fill(no_text[:, None, None], -math.inf)
    value_RThe = attn.values_text_proj(text).unflatten(-1, split)
    out = attn.out_vision_proj
    folded_value = torch.einsum(
        "rthe,dhe->rhtd", value_RThe, out.weight.unflatten(1, split)
    ).flatten(1, 2)
    to_vision = by_vision.softmax(-1).flatten(2) @ folded_value + out.bias

    by_text = similarity.transpose(1, 2)
    if no_vision is not None:
        by_text = by_text.masked_fill(no_vision[:, None], -math.inf)
    read = (by_text.softmax(-1) @ vision).unflatten(1, (attn.num_heads, -1))
    value = attn.values_vision_proj
    read = torch.einsum("rhtd,hed->rthe", read, value.weight.unflatten(0, split)).flatten(2)
    to_text = attn.out_text_proj(read + value.bias)
    return vision + layer.vision_param * to_vision, text + layer.text_param * to_text


def _enhance_text(layer: Any, text: Tensor, texts: Texts) -> Tensor:
    """Self-attention of the text, within phrases."""
    queries = text + texts.positions
    mask = texts.text_self_attention_mask[:, None]
    text = text + _attention(layer.self_attn, queries, queries, text, mask)
    text = layer.layer_norm_before(text)
    return layer.layer_norm_after(text + layer.fc2(layer.activation(layer.fc1(text))))


def _deformable_attention(layer: Any, vision: Tensor, centres: Tensor, images: Images) -> Tensor:
    """Deformable self-attention of the image."""
    read = deformable_attention(
        layer.self_attn, vision + images.positions, vision, centres, images.levels, images.padding
    )
    vision = layer.self_attn_layer_norm(vision + read)
    return layer.final_layer_norm(vision + layer.fc2(layer.activation_fn(layer.fc1(vision))))


def _decode(
    layer: Any,
    hidden: Tensor,
    position: Tensor,
    reference: Tensor,
    vision: Tensor,
    text: Tensor,
    images: Images,
    texts: Texts,
) -> Tensor:
    """One decoder layer: queries read each other, the text, then the image around their boxes."""
    queries = hidden + position
    hidden = hidden + _attention(layer.self_attn, queries, queries, hidden, None)
    hidden = layer.self_attn_layer_norm(hidden)
    read = _attention(layer.encoder_attn_text, hidden + position, text, text, _allow(texts.padding))
    hidden = layer.encoder_attn_text_layer_norm(hidden + read)
    read = deformable_attention(
        layer.encoder_attn, hidden + position, vision, reference, images.levels, images.padding
    )
    hidden = layer.encoder_attn_layer_norm(hidden + read)
    return layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))


def _similarity(head: Any, vision: Tensor, text: Tensor, no_text: Tensor | None) -> Tensor:
    """Logit of every text token for every vision feature, float32, −inf at padding."""
    logits = (vision @ text.transpose(1, 2)).float()
    if hasattr(head, "bias"):  # MM-Grounding-DINO scales and shifts
        logits = logits / math.sqrt(vision.shape[-1]) + head.bias.float()
    return logits if no_text is None else logits.masked_fill(no_text[:, None], -math.inf)


def _attention(
    module: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
) -> Tensor:
    """A transformers `GroundingDinoMultiheadAttention`, fused."""
    read = _attend(
        module.query(queries),
        module.key(keys),
        module.value(values),
        module.num_attention_heads,
        mask,
    )
    return module.out_proj(read)


def _attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None) -> Tensor:
    split = [part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (query, key, value)]
    return F.scaled_dot_product_attention(*split, attn_mask=mask).transpose(1, 2).flatten(2)


def _allow(padding: Tensor | None) -> Tensor | None:
    """(R, N) padding of the keys as an attention mask, True where attention may go."""
    return None if padding is None else ~padding[:, None, None]


def _cells(images: Images, shape: tuple[int, int]) -> Tensor:
    """(H·W, 2) x and y of the middles of a level's tokens, in tokens, float32."""
    height, width = shape
    x = torch.arange(width, dtype=torch.float32, device=images.valid.device) + 0.5
    y = torch.arange(height, dtype=torch.float32, device=images.valid.device) + 0.5
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).flatten(0, 1)


def _centres(images: Images) -> Tensor:
    """(R, S, L, 2) middle of every token in 0–1 of each level's map, padding included."""
    places = [
        _cells(images, (height, width))
        / (images.valid[:, None, level] * images.levels.sizes[level])
        for level, (height, width) in enumerate(images.levels.shapes)
    ]
    return torch.cat(places, 1)[:, :, None] * images.valid[:, None]


def _proposals(images: Images) -> tuple[Tensor, Tensor]:
    """A box around every token, RS4 as logits, and RS1 where it is padding or off the image.

    There the box is the whole image: the logits are infinite.
    """
    boxes = []
    for level, (height, width) in enumerate(images.levels.shapes):
        # how many tokens are image; the shares are exact multiples of 1 / size
        kept = (images.valid[:, None, level] * images.levels.sizes[level]).round()
        centre = _cells(images, (height, width)) / kept
        boxes.append(torch.cat([centre, torch.full_like(centre, 0.05 * 2.0**level)], -1))
    proposals = torch.cat(boxes, 1)
    outside = ~((proposals > 0.01) & (proposals < 0.99)).all(-1, keepdim=True)
    if images.padding is not None:
        outside = outside | images.padding[..., None]
    logits = (proposals / (1 - proposals)).log()
    return logits.masked_fill(outside, math.inf), outside
