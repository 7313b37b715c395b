"""The image encoder of Grounding DINO: pixels to tokens of several levels.

Legend of the shape suffixes: B images, C channels, H and W rows and columns of pixels, S vision
tokens of all levels, T those of one, D features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pad_pipeline.models.grounding_dino.network import Network
from pad_pipeline.models.grounding_dino.places import Places, find_places
from pad_pipeline.models.grounding_dino.preprocessing import Size
from pad_pipeline.models.swin_forward import run_swin


@dataclass(frozen=True, slots=True)
class Images:
    """Encoded images: tokens BSD, and where they lie."""

    tokens: Tensor
    places: Places

    def rows(self, index: Tensor) -> Images:
        """The images of each row; `index` (R,) may repeat."""
        return Images(self.tokens.index_select(0, index), self.places.rows(index))


@dataclass(frozen=True, slots=True)
class Map:
    """One output of the backbone: tokens BTC of a map of (rows, columns) `shape`."""

    tokens: Tensor
    shape: Size


def encode_images(
    network: Network, pixels_BCHW: Tensor, sizes: Sequence[Size] | None = None
) -> Images:
    """Normalised pixels in the model's type to tokens.

    `sizes` are the (height, width) in pixels that each image has of the canvas, from its upper left
    corner; None: all of it. What is not image is 0.
    """
    levels = project_maps(network, backbone_maps(network, pixels_BCHW))
    return join_levels(network, levels, (pixels_BCHW.shape[2], pixels_BCHW.shape[3]), sizes)


def join_levels(
    network: Network, levels: Sequence[Tensor], canvas: Size, sizes: Sequence[Size] | None
) -> Images:
    """Levels (B, D, rows, columns) as one sequence of tokens; `sizes` as for `encode_images`."""
    shapes = [(level.shape[2], level.shape[3]) for level in levels]
    tokens = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
    return Images(tokens, find_places(network, canvas, shapes, sizes))


def backbone_maps(network: Network, pixels_BCHW: Tensor) -> list[Map]:
    """The outputs of the backbone, the largest first."""
    if network.swin is not None:
        outputs = run_swin(network.swin, pixels_BCHW, network.windows)
        return [Map(tokens, shape) for tokens, shape in outputs]
    backbone = network.module.model.backbone.conv_encoder.model
    return [
        Map(plane.flatten(2).transpose(1, 2), (plane.shape[2], plane.shape[3]))
        for plane in backbone(pixels_BCHW).feature_maps
    ]


def project_maps(network: Network, maps: Sequence[Map]) -> list[Tensor]:
    """The levels (B, D, rows, columns): of each map, then smaller ones made of the last."""
    layers = network.module.model.input_proj_vision
    levels = [_project(layer, output) for layer, output in zip(layers, maps, strict=False)]
    source = maps[-1].tokens.transpose(1, 2).unflatten(2, maps[-1].shape)
    for layer in layers[len(maps) :]:
        source = layer(source)
        levels.append(source)
    return levels


def _project(layer: Any, output: Map) -> Tensor:
    """A convolution of 1 × 1, as the product that it is, and its norm."""
    convolution, norm = layer
    weight = convolution.weight.flatten(1)
    tokens = F.linear(output.tokens, weight, convolution.bias)
    return norm(tokens.transpose(1, 2).unflatten(2, output.shape))
