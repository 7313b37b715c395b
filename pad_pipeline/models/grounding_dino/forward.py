"""Grounding DINO from encoded images and texts to boxes.

Written out here, and not left to transformers' `forward`, for six reasons: an image that has
several prompts passes the backbone once (see `encode`), texts are encoded by phrase (`phrases`),
boxes and their heads stay in float32 whatever the model's type, the clamp of the inverse sigmoid is
the original's, images with fewer tokens than queries work, and a pass takes less than half of the
launches. In float32 the results are those of the original code.

Nothing here waits for the device.

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
from torch import Tensor

from pad_pipeline.models.compiling import use_cache_folder
from pad_pipeline.models.grounding_dino.deformable_attention import deformable_attention
from pad_pipeline.models.grounding_dino.encode import Images
from pad_pipeline.models.grounding_dino.network import (
    DecoderLayer,
    EncoderLayer,
    Fusion,
    Network,
    Perceptron,
)
from pad_pipeline.models.grounding_dino.phrases import Texts
from pad_pipeline.models.grounding_dino.places import Places
from pad_pipeline.models.layers import attend

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
    use_cache_folder()
    compiled = partial(torch.compile, dynamic=True, backend=backend)
    return Steps(
        compiled(_fusion),
        compiled(_enhance_text),
        compiled(_deformable_attention),
        compiled(_decode),
    )


def detect_pairs(
    network: Network, images: Images, texts: Texts, steps: Steps | None = None
) -> tuple[Tensor, Tensor]:
    """Logits RQT, −inf at padding, and boxes RQ4 (centre x, y, width, height in 0–1), float32.

    Row r of `images` goes with row r of `texts`. Boxes are relative to the image without its
    padding. There are `num_queries` queries, or as many as tokens where those are fewer.
    """
    steps = steps or Steps(_fusion, _enhance_text, _deformable_attention, _decode)
    core, eps = network.module.model, LOGIT_EPS[network.module.config.model_type]
    vision, text, places = images.tokens, texts.tokens, images.places
    for layer in network.encoder:
        vision, text = steps.fusion(layer.fusion, vision, text, places.padding, texts.padding)
        text = steps.enhance_text(layer, text, texts)
        vision = steps.deformable_attention(layer, vision, places)
    hidden, boxes = init_queries(network, select_tokens(network, vision, text, images, texts))
    memory = network.text_key_value(text).chunk(2 * len(network.decoder), -1)
    for index, layer in enumerate(network.decoder):
        if index:
            boxes = refine_boxes(network.decoder[index - 1].move_boxes, hidden, boxes, eps)
        reference = boxes[:, :, None] if places.scale is None else boxes[:, :, None] * places.scale
        position = network.box_positions(network.box_sines(reference[:, :, 0]).to(hidden.dtype))
        key_value = memory[2 * index : 2 * index + 2]
        hidden = steps.decode(layer, hidden, position, reference, vision, key_value, places, texts)
    hidden = core.decoder.layer_norm(hidden)
    logits = _similarity(network.module.class_embed[-1], hidden, text, texts)
    return logits, refine_boxes(network.decoder[-1].move_boxes, hidden, boxes, eps)


def select_tokens(
    network: Network, vision: Tensor, text: Tensor, images: Images, texts: Texts
) -> TopTokens:
    """The `num_queries` tokens of the encoder's output that match the text best."""
    core, places = network.module.model, images.places
    candidates = core.enc_output_norm(core.enc_output(vision.masked_fill(places.outside, 0.0)))
    logits = _similarity(core.encoder_output_class_embed, candidates, text, texts)
    num_queries = min(core.config.num_queries, vision.shape[1])
    scores, best = logits.amax(-1).topk(num_queries, dim=1)
    features = candidates.gather(1, best[..., None].expand(-1, -1, candidates.shape[-1]))
    proposals = places.proposals.expand(len(best), -1, -1)
    proposals = proposals.gather(1, best[..., None].expand(-1, -1, 4))
    return TopTokens(scores, best, network.first_boxes(features.float()) + proposals, features)


def init_queries(network: Network, top: TopTokens) -> tuple[Tensor, Tensor]:
    """The decoder's first queries RQD and boxes RQ4.

    The order of the tokens matters: the learned queries are handed out in it.
    """
    core, queries = network.module.model, top.features
    if core.config.embedding_init_target:
        learned = core.query_position_embeddings.weight[: queries.shape[1]]
        queries = learned.expand(len(queries), -1, -1)
    return queries, top.boxes.sigmoid()


def refine_boxes(head: Perceptron, hidden: Tensor, boxes: Tensor, eps: float) -> Tensor:
    """The boxes RQ4 moved by what a box head reads in the queries, in float32."""
    return (head(hidden.float()) + inverse_sigmoid(boxes, eps)).sigmoid()


def inverse_sigmoid(share: Tensor, eps: float) -> Tensor:
    """log(x / (1 − x)) of x in 0–1 with both sides kept at `eps` or more."""
    return (share.clamp(min=eps) / (1 - share).clamp(min=eps)).log()


def _fusion(
    layer: Fusion, vision: Tensor, text: Tensor, no_vision: Tensor | None, no_text: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Image reads text and text reads image through one similarity; added to the normed inputs.

    `network` explains the folded weights. Columns are the heads' text tokens, head by head.
    """
    vision, text = layer.norm_vision(vision), layer.norm_text(text)
    heads, width = layer.heads, vision.shape[-1]
    made = layer.of_text(text)
    pairs = made[..., : 2 * heads * width].unflatten(-1, (2, heads, width))
    query, value = pairs.permute(2, 0, 3, 1, 4).flatten(2, 3).unbind()  # R, h·T, D
    bias = made[..., 2 * heads * width :].transpose(1, 2).flatten(1)
    similarity = torch.baddbmm(bias[:, None], vision, query.transpose(1, 2))  # R, S, h·T

    by_vision = similarity.unflatten(-1, (heads, -1))
    if no_text is not None:
        by_vision = by_vision.masked_fill(no_text[:, None, None], -math.inf)
    read_by_vision = by_vision.softmax(-1).flatten(2)
    if no_vision is not None:
        similarity = similarity.masked_fill(no_vision[..., None], -math.inf)
    read = similarity.softmax(1).transpose(1, 2) @ vision
    read = read.unflatten(1, (heads, -1)).transpose(1, 2).flatten(2)  # R, T, h·D
    return torch.baddbmm(vision, read_by_vision, value), text + layer.to_text(read)


def _enhance_text(layer: EncoderLayer, text: Tensor, texts: Texts) -> Tensor:
    """Self-attention of the text, within phrases."""
    read = layer.text_attention(text + texts.positions, text, texts.within_phrases)
    return layer.text_feed_forward(layer.text_norm(text + read))


def _deformable_attention(layer: EncoderLayer, vision: Tensor, places: Places) -> Tensor:
    """Deformable self-attention of the image."""
    placed = vision + places.positions
    read = deformable_attention(
        layer.points, placed, vision, places.centres, places.levels, places.padding
    )
    return layer.feed_forward(layer.points_norm(vision + read))


def _decode(
    layer: DecoderLayer,
    hidden: Tensor,
    position: Tensor,
    reference: Tensor,
    vision: Tensor,
    text_key_value: tuple[Tensor, Tensor],
    places: Places,
    texts: Texts,
) -> Tensor:
    """One decoder layer: queries read each other, the text, then the image around their boxes."""
    read = layer.self_attention(hidden + position, hidden, None)
    hidden = layer.self_norm(hidden + read)
    query = layer.text_query(hidden + position)
    read = attend(query, *text_key_value, layer.heads, texts.without_padding)
    hidden = layer.text_norm(hidden + layer.text_output(read))
    read = deformable_attention(
        layer.points, hidden + position, vision, reference, places.levels, places.padding
    )
    return layer.feed_forward(layer.points_norm(hidden + read))


def _similarity(head: Any, vision: Tensor, text: Tensor, texts: Texts) -> Tensor:
    """Logit of every text token for every vision feature, float32, −inf at padding."""
    text = text.transpose(1, 2)
    if texts.without_padding is None:
        logits = vision @ text
    else:
        logits = torch.baddbmm(texts.without_padding[:, 0], vision, text)
    logits = logits.float()
    if hasattr(head, "bias"):  # MM-Grounding-DINO scales and shifts
        logits = logits / math.sqrt(vision.shape[-1]) + head.bias.float()
    return logits
