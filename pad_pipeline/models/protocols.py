"""What the models of the chain take and give: protocols and results, without torch.

Processes that only read, pass on or write records import this and not the models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.records import Tag

Image = NDArray[np.uint8]
"""HWC uint8 RGB, 0–255, any size."""


@dataclass(frozen=True, slots=True)
class Boxes:
    """What a detector found in one image, before suppression.

    `xyxy` is (N, 4) float32 in pixels of the original image, `scores` (N,) float32 in 0–1, `labels`
    one name per box. `num_prompts` counts the text prompts that the image's tags were split into.
    """

    xyxy: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    labels: tuple[str, ...] = ()
    num_prompts: int = 0

    def take(self, kept: Sequence[int] | NDArray[np.integer]) -> Boxes:
        """The boxes of these indices, in their order."""
        indices = np.asarray(kept, np.int64)
        return Boxes(
            xyxy=self.xyxy[indices],
            scores=self.scores[indices],
            labels=tuple(self.labels[index] for index in indices),
            num_prompts=self.num_prompts,
        )


@dataclass(frozen=True, slots=True)
class Mask:
    """A segmenter's mask for one box: COCO compressed `counts` of a (height, width) mask.

    `stability` is the overlap of the masks at a higher and a lower threshold, where it was asked
    for (see `SamSegmenter`).
    """

    counts: str
    height: int
    width: int
    area: int
    predicted_iou: float
    stability: float | None = None


@dataclass(frozen=True, slots=True)
class MaskedBoxes:
    """What a detector that draws masks found in one image, after suppression.

    `masks` has one per box, whose `predicted_iou` is 1: nobody has estimated it. `presence` gives
    for each tag the probability (0–1) that there is such a thing in the image at all.
    """

    boxes: Boxes = field(default_factory=Boxes)
    masks: tuple[Mask, ...] = ()
    presence: Mapping[str, float] = field(default_factory=dict)


Choose = Callable[[int, Boxes], Sequence[int] | NDArray[np.integer]]
"""From the number of an image and its boxes to the indices of those that stay, in their order."""


class Tagger(Protocol):
    """Names what is in an image. A call is one pass of the model: callers make the batches."""

    def tag(self, images: Sequence[Image]) -> list[list[Tag]]:
        """The tags of each image whose probability passes their threshold."""
        ...


class Detector(Protocol):
    """Finds the boxes of named things. Callers make the batches, as for a `Tagger`."""

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """The size at which the model sees an image; only images of one such size share a pass."""
        ...

    def detect(self, images: Sequence[Image], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        """The boxes of each image for its own tags; an image without tags has none."""
        ...


class MaskDetector(Detector, Protocol):
    """A `Detector` that also draws the masks of its boxes, from one pass over the image."""

    def detect_masks(
        self, images: Sequence[Image], tags: Sequence[Sequence[str]], choose: Choose
    ) -> list[MaskedBoxes]:
        """As `detect`, for the boxes that `choose` keeps: masks are drawn for these alone."""
        ...


class Segmenter(Protocol):
    """Finds the mask of the thing in a box. Callers make the batches, as for a `Tagger`."""

    @property
    def max_images(self) -> int | None:
        """Images whose passes through the encoder fit in memory together; None: no bound."""
        ...

    def segment(
        self, images: Sequence[Image], boxes_xyxy: Sequence[NDArray[np.float32]]
    ) -> list[list[Mask]]:
        """One mask per box, each of its image's original size; no boxes, no masks."""
        ...
