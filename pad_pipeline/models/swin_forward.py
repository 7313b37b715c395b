"""Swin's forward pass over transformers' modules, in a third of their launches.

Query, key and value are one product, windows are cut out (padded and shifted) and put back by one
gather each, and what depends on the map's size or on the weights alone is made once.

Legend of the shape suffixes: B images, T tokens of a map (its rows one after another), C channels,
W windows, N tokens of a window.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.layers import attend, join_linears

APART = -100.0
"""What Swin adds to the scores of tokens that are neighbours only by the cyclic shift."""


@dataclass(frozen=True, slots=True)
class Windows:
    """How a map's tokens stand in its windows.

    `cut` (W·N,) is the token of each place, T where it is padding; `back` (T,) the place of each
    token; `together` (W, 1, N, N8) whether two places may see each other (None: all may), its rows
    as long as those of `Block.bias`.
    """

    cut: Tensor
    back: Tensor
    together: Tensor | None
    num_windows: int


@dataclass(frozen=True, slots=True)
class Block:
    """One Swin layer, with what it adds to the scores of attention.

    `bias` (1, heads, N, N8) is that of its relative positions and `apart` the same less 100; rows
    are rounded up to multiples of 8, without which fused attention on GPUs copies them first.
    """

    norm_before: nn.Module
    query_key_value: nn.Linear
    output: nn.Module
    norm_after: nn.Module
    mlp: nn.Module
    bias: Tensor
    apart: Tensor
    heads: int
    window: int
    shift: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The blocks of one resolution, the norm if it is an output, and what merges its tokens."""

    blocks: tuple[Block, ...]
    norm: nn.Module | None
    merge: Any


@dataclass(frozen=True, slots=True)
class Swin:
    """transformers' Swin, prepared by `prepare_swin`."""

    embeddings: nn.Module
    stages: tuple[Stage, ...]


def prepare_swin(swin: Any, norms: Mapping[str, nn.Module], *, map_side: int | None = None) -> Swin:
    """A `SwinModel` to be run by `run_swin`; `norms` are those of its outputs, by `stage{i}`.

    Where its images are always squares whose first map has `map_side` tokens a side, a map no
    larger than a window is one window, without a shift, as in Swin for classification; elsewhere
    every map is padded to whole windows, as in detectors. What is made of its weights here does
    not follow them when they change.
    """
    sides = [
        None if map_side is None else -(-map_side // 2**n) for n in range(len(swin.encoder.layers))
    ]
    stages = [
        Stage(
            tuple(_block(layer, sides[number - 1]) for layer in stage.blocks),
            norms.get(f"stage{number}"),
            stage.downsample,
        )
        for number, stage in enumerate(swin.encoder.layers, start=1)
    ]
    return Swin(swin.embeddings, tuple(stages))


@torch.no_grad()
def _block(layer: Any, side: int | None) -> Block:
    attention = layer.attention
    is_whole = side is not None and side <= layer.window_size
    bias = attention.relative_position_bias()
    bias = F.pad(bias, (0, -bias.shape[-1] % 8))
    return Block(
        layer.layernorm_before,
        join_linears(attention.q_proj, attention.k_proj, attention.v_proj),
        attention.o_proj,
        layer.layernorm_after,
        layer.mlp,
        bias,
        bias + APART,
        attention.num_attention_heads,
        layer.window_size,
        0 if is_whole else layer.shift_size,
    )


def run_swin(
    swin: Swin, pixels: Tensor, windows: Constants[Windows]
) -> Iterator[tuple[Tensor, tuple[int, int]]]:
    """The tokens BTC of each stage that is an output, and the (rows, columns) of its map.

    `pixels` are (B, 3, height, width); maps are padded to whole windows, whatever their size.
    """
    tokens, shape = swin.embeddings(pixels)
    for stage in swin.stages:
        for block in stage.blocks:
            tokens = run_block(block, tokens, find_windows(block, shape, tokens.device, windows))
        if stage.norm is not None:
            yield stage.norm(tokens), shape
        if stage.merge is not None:
            tokens, shape = _merge(stage.merge, tokens, shape)


def run_block(block: Block, tokens: Tensor, windows: Windows) -> Tensor:
    """One layer: attention within windows, then the perceptron; BTC to BTC."""
    normed = block.norm_before(tokens)
    if windows.cut.shape[0] > windows.back.shape[0]:
        normed = F.pad(normed, (0, 0, 0, 1))  # the token that padding reads
    inside = normed.index_select(1, windows.cut).unflatten(1, (windows.num_windows, -1))
    query, key, value = block.query_key_value(inside.flatten(0, 1)).chunk(3, -1)
    bias = block.bias
    if windows.together is not None:
        together = windows.together.expand(len(tokens), -1, -1, -1, -1)
        bias = torch.where(together, block.bias, block.apart).flatten(0, 1)
    read = attend(query, key, value, block.heads, bias[..., : inside.shape[2]])
    read = block.output(read)
    read = read.view(len(tokens), -1, read.shape[-1]).index_select(1, windows.back)
    tokens = tokens + read
    return tokens + block.mlp(block.norm_after(tokens))


def find_windows(
    block: Block, shape: tuple[int, int], device: torch.device, windows: Constants[Windows]
) -> Windows:
    """The windows of a block on a map of (rows, columns) `shape`."""
    return windows.get(
        (*shape, block.window, block.shift),
        lambda: cut_windows(*shape, block.window, block.shift, device),
    )


def cut_windows(height: int, width: int, window: int, shift: int, device: torch.device) -> Windows:
    """The windows of `window` × `window` tokens of a map that is shifted up and left by `shift`."""
    rows, columns = -(-height // window), -(-width // window)
    tokens = np.full((rows * window, columns * window), height * width, np.int32)
    tokens[:height, :width] = np.arange(height * width, dtype=np.int32).reshape(height, width)
    cut = _by_window(np.roll(tokens, (-shift, -shift), (0, 1)), window)
    places = np.flatnonzero(cut.ravel() < height * width)
    back = np.empty(height * width, np.int32)
    back[cut.ravel()[places]] = places
    together = None
    if shift:
        areas = _areas(rows * window, window, shift)[:, None] * 3
        areas = _by_window(areas + _areas(columns * window, window, shift), window)
        areas = np.pad(areas, ((0, 0), (0, -areas.shape[1] % 8)), constant_values=-1)
        same = areas[:, : window**2, None] == areas[:, None]
        together = upload(same[:, None], device)
    return Windows(upload(cut.ravel(), device), upload(back, device), together, len(cut))


def _areas(length: int, window: int, shift: int) -> np.ndarray:
    """Along one axis: which of the 3 parts that the shift brings together a place belongs to."""
    place = np.arange(length)
    return (place >= length - window).astype(np.int8) + (place >= length - shift)


def _by_window(plane: np.ndarray, window: int) -> np.ndarray:
    """(W, N) of a plane (rows, columns) of whole windows."""
    rows, columns = (length // window for length in plane.shape)
    cells = plane.reshape(rows, window, columns, window).transpose(0, 2, 1, 3)
    return np.ascontiguousarray(cells.reshape(rows * columns, window * window))


def _merge(merge: Any, tokens: Tensor, shape: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """Four neighbouring tokens as one, in the order of the module, and the smaller map's shape."""
    height, width = shape
    plane = tokens.unflatten(1, shape)
    if height % 2 or width % 2:
        plane = F.pad(plane, (0, 0, 0, width % 2, 0, height % 2))
    shape = ((height + 1) // 2, (width + 1) // 2)
    cells = plane.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # B, row, 0–1, column, 0–1, C
    merged = cells.permute(0, 1, 3, 4, 2, 5).flatten(3).flatten(1, 2)
    return merge.reduction(merge.norm(merged)), shape
