"""The two encoders of Grounding DINO, over transformers' modules: images and texts to tokens.

Legend of the shape suffixes: B images or texts, R rows (pairs of an image and a text), C channels,
H and W rows and columns, S vision tokens of all levels, T text tokens, D features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.models.grounding_dino.modeling_grounding_dino import (
    generate_masks_with_special_tokens_and_transfer_map as divide_into_phrases,
)

from pad_pipeline.models.grounding_dino.deformable_attention import Levels


@dataclass(frozen=True, slots=True)
class Images:
    """Encoded images: tokens and their positions BSD, padding BS (None: there is none).

    S runs through the `levels`; `valid` BL2 is the share of each one's width and height that is
    image.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor | None
    levels: Levels
    valid: Tensor

    def rows(self, index: Tensor) -> Images:
        """The images of each row; `index` (R,) may repeat."""
        padding = None if self.padding is None else self.padding[index]
        return Images(
            self.tokens[index], self.positions[index], padding, self.levels, self.valid[index]
        )


@dataclass(frozen=True, slots=True)
class Texts:
    """Encoded texts: features and positions RTD, padding RT (None: there is none).

    `text_self_attention_mask` RTT holds where both tokens belong to one phrase.
    """

    tokens: Tensor
    positions: Tensor
    padding: Tensor | None
    text_self_attention_mask: Tensor

    def rows(self, index: Tensor) -> Texts:
        """The text of each row; `index` (R,) may repeat."""
        padding = None if self.padding is None else self.padding[index]
        mask = self.text_self_attention_mask[index]
        return Texts(self.tokens[index], self.positions[index], padding, mask)


def encode_images(model: Any, pixels_BCHW: Tensor, padding_BHW: Tensor | None = None) -> Images:
    """Normalised pixels in the model's type, and where they are padding, to tokens."""
    model = model.model
    maps = list(model.backbone.conv_encoder.model(pixels_BCHW).feature_maps)
    levels = []
    for level, project in enumerate(model.input_proj_vision):
        # levels beyond the backbone's are made from its last map, and then from one another
        source = (
            maps[level] if level < len(maps) else (maps[-1] if level == len(maps) else levels[-1])
        )
        levels.append(project(source))
    shapes = tuple((int(level.shape[2]), int(level.shape[3])) for level in levels)
    kept = [_shrink(padding_BHW, len(pixels_BCHW), shape, pixels_BCHW.device) for shape in shapes]
    positions = []
    for level, (features, mask) in enumerate(zip(levels, kept, strict=True)):
        position = model.backbone.position_embedding(features, mask).to(features.dtype)
        positions.append((position + model.level_embed[level][:, None, None]).flatten(2))
    valid = [
        torch.stack([mask[:, 0].float().mean(1), mask[:, :, 0].float().mean(1)], -1)
        for mask in kept
    ]
    return Images(
        torch.cat([level.flatten(2) for level in levels], 2).transpose(1, 2).contiguous(),
        torch.cat(positions, 2).transpose(1, 2).contiguous(),
        None if padding_BHW is None else ~torch.cat([mask.flatten(1) for mask in kept], 1),
        Levels.of(shapes, pixels_BCHW.device),
        torch.stack(valid, 1),
    )


def _shrink(
    padding_BHW: Tensor | None, num_images: int, shape: tuple[int, int], device: torch.device
) -> Tensor:
    """Where a level of (height, width) `shape` holds image, as a boolean tensor."""
    if padding_BHW is None:
        return torch.ones((num_images, *shape), dtype=torch.bool, device=device)
    return F.interpolate((~padding_BHW)[None].float(), size=shape)[0].bool()


def encode_texts(model: Any, ids_BT: Tensor, padding_BT: Tensor | None = None) -> Texts:
    """Token ids, padded with 0 where `padding_BT` holds, to features.

    More than `max_text_len` tokens are cut off here, after the phrases have been found, as the
    original does; prompts are to be divided before.
    """
    model = model.model
    mask_BTT, position_ids = divide_into_phrases(
        ids_BT,  # pyright: ignore[reportArgumentType]
        special_tokens=model.special_tokens,
    )
    limit = model.config.max_text_len
    ids_BT, position_ids = ids_BT[:, :limit], position_ids[:, :limit]
    mask_BTT = mask_BTT[:, :limit, :limit]
    if padding_BT is not None:
        padding_BT = padding_BT[:, :limit]
    hidden = model.text_backbone(
        ids_BT, mask_BTT[:, None], torch.zeros_like(ids_BT), position_ids
    ).last_hidden_state
    tokens = model.text_projection(hidden)
    positions = sine(position_ids[..., None].float(), model.config.d_model).to(tokens.dtype)
    return Texts(tokens, positions, padding_BT, mask_BTT)


def sine(coordinates: Tensor, width: int) -> Tensor:
    """Sine features (…, n · width) of n coordinates (…, n); y goes before x where there are two."""
    index = torch.arange(width, dtype=torch.float32, device=coordinates.device)
    period = 10000 ** (2 * index.div(2, rounding_mode="floor") / width)
    angles = coordinates[..., None] * (2 * math.pi) / period
    features = torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1).flatten(-2)
    if coordinates.shape[-1] > 1:
        order = [1, 0, *range(2, coordinates.shape[-1])]
        features = features[..., order, :]
    return features.flatten(-2)
