"""The parts of Grounding DINO as they run; `prepare` makes them of transformers' model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pad_pipeline.models.constants import Constants
from pad_pipeline.models.epilogues import linear_relu
from pad_pipeline.models.grounding_dino.deformable_attention import PointReader
from pad_pipeline.models.layers import attend
from pad_pipeline.models.swin_forward import Swin


@dataclass(frozen=True, slots=True)
class Sines:
    """Sine features of numbers: `frequencies` and `phases` (W,), a phase of π/2 for each cosine."""

    frequencies: Tensor
    phases: Tensor

    @classmethod
    def of(cls, width: int, temperature: float, device: torch.device) -> Sines:
        """`width` features, sines and cosines by turns, of numbers in 0–1."""
        index = torch.arange(width, dtype=torch.float64)
        frequencies = 2 * math.pi / temperature ** (2 * index.div(2, rounding_mode="floor") / width)
        phases = (index % 2) * (math.pi / 2)
        return cls(frequencies.float().to(device), phases.float().to(device))

    def __call__(self, numbers: Tensor) -> Tensor:
        """Features (…, n · W) of n numbers (…, n), float32."""
        angles = torch.addcmul(self.phases, numbers[..., None], self.frequencies)
        return angles.sin_().flatten(-2)


@dataclass(frozen=True, slots=True)
class Attention:
    """Attention whose queries and keys are made of one input."""

    query_key: nn.Linear
    value: nn.Module
    output: nn.Module
    heads: int

    def __call__(self, placed: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
        """What tokens (R, N, D) read of one another; `placed` are they with their positions."""
        query, key = self.query_key(placed).chunk(2, -1)
        return self.output(attend(query, key, self.value(values), self.heads, bias))


@dataclass(frozen=True, slots=True)
class FeedForward:
    """The perceptron at the end of a layer, with its residual and norm."""

    hidden: nn.Linear
    output: nn.Module
    norm: nn.Module

    def __call__(self, x: Tensor) -> Tensor:
        return self.norm(x + self.output(linear_relu(self.hidden, x)))


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Linear layers with ReLU between them."""

    hidden: tuple[nn.Linear, ...]
    output: nn.Linear

    def __call__(self, x: Tensor) -> Tensor:
        for layer in self.hidden:
            x = linear_relu(layer, x)
        return self.output(x)


@dataclass(frozen=True, slots=True)
class Fusion:
    """Image and text read each other; see `prepare.fold_fusion` for the two folded layers."""

    norm_vision: nn.Module
    norm_text: nn.Module
    of_text: nn.Linear
    to_text: nn.Linear
    heads: int


@dataclass(frozen=True, slots=True)
class EncoderLayer:
    """A layer of the encoder: fusion, the text within its phrases, the image around its tokens."""

    fusion: Fusion
    text_attention: Attention
    text_norm: nn.Module
    text_feed_forward: FeedForward
    points: PointReader
    points_norm: nn.Module
    feed_forward: FeedForward


@dataclass(frozen=True, slots=True)
class DecoderLayer:
    """A layer of the decoder: the queries read one another, the text, the image; and a box head.

    `move_boxes` is the head by which the boxes move after the layer.
    """

    self_attention: Attention
    self_norm: nn.Module
    text_query: nn.Module
    text_output: nn.Module
    text_norm: nn.Module
    points: PointReader
    points_norm: nn.Module
    feed_forward: FeedForward
    move_boxes: Perceptron
    heads: int


@dataclass(frozen=True, slots=True)
class Network:
    """A model to run, and what is kept between its passes. `module` is transformers' model.

    `text_key_value` makes the text's keys and values of all decoder layers, `box_positions` the
    queries' positions of the sines of x, y, width and height.
    """

    module: Any
    swin: Swin | None
    encoder: tuple[EncoderLayer, ...]
    decoder: tuple[DecoderLayer, ...]
    text_key_value: nn.Linear
    box_positions: Perceptron
    first_boxes: Perceptron
    box_sines: Sines
    map_sines: Sines
    text_positions: Tensor
    windows: Constants
    places: Constants
    phrases: Constants

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.text_positions.device

    @property
    def dtype(self) -> torch.dtype:
        """Of the features; boxes are float32."""
        return self.text_positions.dtype
