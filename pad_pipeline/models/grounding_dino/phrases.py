"""The texts of Grounding DINO, phrase by phrase, each of which is encoded once.

The text encoder lets tokens read those of their own phrase only and counts their positions from its
beginning, so that a phrase ("traffic light.") has the same features in every prompt. Later layers
keep to the phrases as well, but what they compute depends on the image.

Legend of the shape suffixes: R rows (prompts), T text tokens, D features.
"""

from __future__ import annotations

import math
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.models.device_image import upload
from pad_pipeline.models.grounding_dino.network import Network

Phrase = tuple[int, ...]
"""Token ids, the separator behind them included."""

SEPARATOR_IDS = (101, 102, 1012, 1029)
"""Of [CLS], [SEP], "." and "?" in the BERT vocabulary; transformers' model has them built in."""

PADDING: Phrase = (0,)
"""What fills a row up to the longest, as a phrase of its own."""

SLOTS = 8
"""Phrases that are encoded together. Each has its slot, by its token ids: so its features are the
same, bit for bit, whatever is encoded beside it, and a run that goes on makes the same records."""

SHORT = (4, 8)
"""Tokens that a slot has, the separator included; longer phrases are encoded alone."""


@dataclass(frozen=True, slots=True)
class Texts:
    """Encoded prompts: features and positions RTD, padding RT (None: there is none).

    `within_phrases` (R, 1, T, T) and `without_padding` (R, 1, 1, T; None: no padding) are 0 where
    attention may go, and −inf elsewhere.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor | None
    within_phrases: Tensor
    without_padding: Tensor | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How prompts are made of `phrases`, all of them unlike.

    Of every token (R, T): its place among those of all `phrases`, its position in its phrase, and
    the number of the phrase in its prompt, negative and of its own where it is padding.
    """

    phrases: list[Phrase]
    places: NDArray[np.int32]
    positions: NDArray[np.int32]
    numbers: NDArray[np.int32]


def encode_texts(network: Network, prompts: Sequence[Sequence[int]]) -> Texts:
    """The token ids of each row's prompt, from [CLS] to [SEP], to features.

    More than `max_text_len` tokens are cut off after the phrases have been found, as the original
    does; prompts are to be divided before.
    """
    device, dtype = network.device, network.dtype
    layout = lay_out(prompts, network.module.config.max_text_len)
    kept = network.phrases.get_all(layout.phrases, lambda new: encode_phrases(network, new))
    indices = upload(np.stack([layout.places, layout.positions]), device)
    places, positions = indices.flatten(1)
    shape = (*layout.places.shape, -1)
    padding = layout.numbers < 0
    padded = bool(padding.any())
    numbers = layout.numbers
    return Texts(
        torch.cat(kept).index_select(0, places).view(shape),
        network.text_positions.index_select(0, positions).view(shape),
        upload(padding, device) if padded else None,
        _bias(numbers[:, :, None] == numbers[:, None], device, dtype),
        _bias(~padding[:, None], device, dtype) if padded else None,
    )


def lay_out(prompts: Sequence[Sequence[int]], max_tokens: int) -> Layout:
    """The phrases of the rows' prompts, of which the first `max_tokens` tokens count."""
    rows = [list(_cut(divide_into_phrases(ids), max_tokens)) for ids in prompts]
    phrases = list(dict.fromkeys([PADDING, *(phrase for row in rows for phrase in row)]))
    first = dict(zip(phrases, np.cumsum([0, *map(len, phrases)]).tolist(), strict=False))
    longest = max(sum(map(len, row)) for row in rows)
    places = np.full((len(rows), longest), first[PADDING], np.int32)
    positions = np.zeros_like(places)
    numbers = np.tile(-1 - np.arange(longest, dtype=np.int32), (len(rows), 1))
    for index, row in enumerate(rows):
        start = 0
        for number, phrase in enumerate(row):
            tokens = slice(start, start + len(phrase))
            positions[index, tokens] = np.arange(len(phrase))
            places[index, tokens] = first[phrase] + positions[index, tokens]
            numbers[index, tokens] = number
            start += len(phrase)
    return Layout(phrases, places, positions, numbers)


def _cut(phrases: Iterable[Phrase], max_tokens: int) -> Iterator[Phrase]:
    """The phrases up to `max_tokens` tokens, the last one cut where it passes them."""
    left = max_tokens
    for phrase in phrases:
        if left > 0:
            yield phrase[:left]
        left -= len(phrase)


def _bias(allowed: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
    """0 and −inf (R, 1, Q, T) of where attention (R, Q, T) may go.

    Rows begin at multiples of 8 elements: fused attention on GPUs would copy them to such ones.
    """
    rows, queries, tokens = allowed.shape
    bias = np.full((rows, 1, queries, tokens + -tokens % 8), -math.inf, np.float32)
    bias[..., :tokens][allowed[:, None]] = 0
    return upload(bias, device).to(dtype)[..., :tokens]


def divide_into_phrases(ids: Sequence[int]) -> Iterator[Phrase]:
    """The phrases of a prompt, each with the separator that ends it."""
    start = 0
    for index, token in enumerate(ids):
        if token in SEPARATOR_IDS:
            yield tuple(ids[start : index + 1])
            start = index + 1
    if start < len(ids):
        raise ValueError("a prompt ends with a separator")


def encode_phrases(
    network: Network, phrases: Sequence[Phrase], *, projected: bool = True
) -> list[Tensor]:
    """The features (tokens, D) of each phrase, or the text encoder's own before projection.

    They depend on the phrase alone, bit for bit: a phrase is always in the same row of a batch of
    the same shape, and no row reads another.
    """
    found: dict[Phrase, Tensor] = {}
    waiting: dict[int, list[list[Phrase]]] = defaultdict(lambda: [[] for _ in range(SLOTS)])
    for phrase in phrases:
        length = next((length for length in SHORT if len(phrase) <= length), None)
        if length is None:
            [found[phrase]] = _encode(network, [phrase], len(phrase), projected)
        else:
            waiting[length][zlib.crc32(np.array(phrase).tobytes()) % SLOTS].append(phrase)
    for length, slots in waiting.items():
        for batch in zip_longest(*slots):
            features = _encode(network, [phrase or PADDING for phrase in batch], length, projected)
            found |= {phrase: row for phrase, row in zip(batch, features, strict=True) if phrase}
    return [found[phrase] for phrase in phrases]


def _encode(
    network: Network, phrases: Sequence[Phrase], length: int, projected: bool
) -> list[Tensor]:
    """The features of one batch of phrases, each filled up to `length`."""
    core = network.module.model
    ids = np.zeros((2, len(phrases), length), np.int64)
    allowed = np.zeros((len(phrases), 1, 1, length), bool)
    for row, phrase in enumerate(phrases):
        ids[0, row, : len(phrase)] = phrase
        ids[1, row, : len(phrase)] = np.arange(len(phrase))
        allowed[row, ..., : len(phrase)] = True
    tokens, positions = upload(ids, network.device)
    mask = upload(allowed, network.device).expand(-1, -1, length, -1)
    hidden = core.text_backbone(tokens, mask, torch.zeros_like(tokens), positions).last_hidden_state
    features = core.text_projection(hidden) if projected else hidden
    return [row[: len(phrase)].clone() for row, phrase in zip(features, phrases, strict=True)]
