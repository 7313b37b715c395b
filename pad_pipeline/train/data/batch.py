"""A micro-batch as the model takes it: ids, pixels, covered patches, label ids.

Legend: B samples, I images (of tiled ones all views: the whole, then its tiles), T sequence,
S vision patches (grid²), R regions (padded), C, H, W pixels.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields, replace
from typing import Self

import torch
from torch import Tensor

from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.data.problems import Problem
from pad_pipeline.train.tiling import Tiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Samples that pass through the model together.

    `input_ids_BT` is 0 where an image token or padding stands. `image_mask_BT` marks the places of
    the image tokens, for every image as many as the projector gives, in the order of
    `pixels_ICHW` (float32, normalised). `labels_BT` are ids, `IGNORE_INDEX` where nothing is
    predicted; the token at t is predicted from those before it. `packed_lengths` are the tokens of
    each sample where all stand in one row, one behind another; () where each has a row of its own,
    padded on the right. `coverage_IRS` is the fraction of
    each patch that a region covers, `region_mask_IR` marks which regions are real and not padding,
    `label_index_IR` which row of `label_ids` (token ids of each distinct tag) names the region.
    """

    sample_ids: list[str]
    input_ids_BT: Tensor
    labels_BT: Tensor
    attention_BT: Tensor
    image_mask_BT: Tensor
    pixels_ICHW: Tensor
    coverage_IRS: Tensor
    region_mask_IR: Tensor
    label_index_IR: Tensor
    label_ids: list[list[int]]
    tilings: tuple[Tiling, ...] = ()
    """How each image is cut into tiles; () where one view shows each."""
    image_ids: list[str] = field(default_factory=list)
    """The samples of `pixels_ICHW`; [] where no image is to be reconstructed."""
    packed_lengths: tuple[int, ...] = ()
    problems: Counter[Problem] = field(default_factory=Counter)
    """Samples that are used in part only, or not at all."""

    @property
    def num_targets(self) -> int:
        """Tokens that are predicted: supervised ones but those at the very beginning."""
        return int((self.labels_BT[:, 1:] != IGNORE_INDEX).sum())

    @property
    def num_images(self) -> int:
        """Images, each counted once however many views show it."""
        return len(self.tilings) or len(self.pixels_ICHW)

    @property
    def num_tokens(self) -> int:
        """Tokens of text and images, without padding."""
        return int(self.attention_BT.sum())

    def to(self, device: str | torch.device) -> Self:
        """The batch with its tensors on `device`."""
        moved = {
            each.name: value.to(device, non_blocking=True)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), Tensor)
        }
        return replace(self, **moved)

    def without_targets(self) -> Self:
        """The batch with no supervised token, no region, no image to reconstruct, no problem."""
        return replace(
            self,
            labels_BT=torch.full_like(self.labels_BT, IGNORE_INDEX),
            region_mask_IR=torch.zeros_like(self.region_mask_IR),
            image_ids=[],
            problems=Counter(),
        )
