"""Which boxes and masks stay: by a tag's threshold, a second detector, suppression, limits."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pad_pipeline.boxes import iou_matrix, nms
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stage_config import SuppressConfig
from pad_pipeline.models.protocols import (
    Boxes,
    Choose,
    Detector,
    Image,
    Mask,
    MaskDetector,
    MaskedBoxes,
)


def keep_boxes(sample: Sample, kept: Sequence[int] | np.ndarray) -> Boxes:
    """The sample's boxes of these indices; given regions are kept along with them."""
    assert sample.boxes is not None
    if sample.regions is not None:
        sample.regions = tuple(sample.regions[index] for index in kept)
    return sample.boxes.take(kept)


def survivors(boxes: Boxes, config: SuppressConfig, negative: Collection[str]) -> list[int]:
    """The boxes that suppression leaves, best score first, without those of negative words."""
    thrown = {word.lower() for word in negative}
    labels = boxes.labels if config.per_class else None
    kept = nms(boxes.xyxy, boxes.scores, config.iou_threshold, labels)
    return [int(number) for number in kept if boxes.labels[number].lower() not in thrown]


@dataclass(frozen=True)
class DetectorRules:
    """A detector with what is asked of its boxes.

    `negative` words are looked for in every image that has tags. A box stays where its score is
    above its tag's of `thresholds` (in lower case), else above `box_threshold`, and, with a
    `second` detector, where this one finds a box of the same tag that overlaps it by `second_iou`,
    as GranD does (arXiv 2311.03356).
    """

    detector: Detector
    box_threshold: float = 0.0
    thresholds: Mapping[str, float] = field(default_factory=dict)
    negative: tuple[str, ...] = ()
    second: Detector | None = None
    second_iou: float = 0.5

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        """As the detector's."""
        return self.detector.input_size(height, width)

    def detect(self, images: Sequence[Image], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        """As the detector's; boxes of negative words are among them, for suppression."""
        words = self._words(tags)
        found = self.detector.detect(images, words)
        others = self._others(images, words)
        return [
            boxes.take(self._kept(boxes, other)) for boxes, other in zip(found, others, strict=True)
        ]

    def _words(self, tags: Sequence[Sequence[str]]) -> list[list[str]]:
        return [list(dict.fromkeys((*own, *self.negative))) if own else [] for own in tags]

    def _others(
        self, images: Sequence[Image], words: Sequence[Sequence[str]]
    ) -> Sequence[Boxes | None]:
        """What the second detector finds; None for each image where there is none."""
        return [None] * len(images) if self.second is None else self.second.detect(images, words)

    def _kept(self, boxes: Boxes, others: Boxes | None) -> np.ndarray:
        """The indices of the boxes that thresholds and second detector leave."""
        kept = self._above(boxes) if self.thresholds else np.arange(len(boxes.labels))
        return kept if others is None else kept[self._agreed(boxes.take(kept), others)]

    def _above(self, boxes: Boxes) -> np.ndarray:
        least = [self.thresholds.get(tag.lower(), self.box_threshold) for tag in boxes.labels]
        return np.flatnonzero(boxes.scores > np.array(least, np.float32))

    def _agreed(self, boxes: Boxes, others: Boxes) -> np.ndarray:
        overlaps = iou_matrix(boxes.xyxy, others.xyxy) >= np.float64(self.second_iou)
        same = np.array(
            [[tag == other for other in others.labels] for tag in boxes.labels], bool
        ).reshape(overlaps.shape)
        return np.flatnonzero((overlaps & same).any(axis=1))


@dataclass(frozen=True)
class MaskDetectorRules(DetectorRules):
    """`DetectorRules` of a detector that draws masks."""

    detector: MaskDetector

    def detect_masks(
        self, images: Sequence[Image], tags: Sequence[Sequence[str]], choose: Choose
    ) -> list[MaskedBoxes]:
        """As the detector's; `choose` sees the boxes that the rules leave."""
        words = self._words(tags)
        others = self._others(images, words)

        def choose_of_kept(index: int, boxes: Boxes) -> np.ndarray:
            kept = self._kept(boxes, others[index])
            return kept[np.asarray(choose(index, boxes.take(kept)), np.int64)]

        return self.detector.detect_masks(images, words, choose_of_kept)


@dataclass(frozen=True)
class MaskLimits:
    """Which masks stay, with their boxes: limits of quality and, in pixels, of size."""

    min_predicted_iou: float = 0.0
    min_stability: float = 0.0
    min_area: int = 0
    max_area: int | None = None

    def apply(self, sample: Sample, masks: Sequence[Mask]) -> tuple[Mask, ...]:
        """The masks within the limits; the sample keeps their boxes alone."""
        kept = self.kept(masks)
        if len(kept) < len(masks):
            sample.boxes = keep_boxes(sample, kept)
        return tuple(masks[number] for number in kept)

    def kept(self, masks: Sequence[Mask]) -> list[int]:
        """The indices of the masks within the limits."""
        return [number for number, mask in enumerate(masks) if self._keeps(mask)]

    def _keeps(self, mask: Mask) -> bool:
        # As float32, the precision of records; a segmenter's estimate may fall below 0.
        least = np.float32(self.min_predicted_iou)
        stability = 1.0 if mask.stability is None else mask.stability
        return (
            bool(not least or np.float32(mask.predicted_iou) >= least)
            and bool(np.float32(stability) >= np.float32(self.min_stability))
            and self.min_area <= mask.area
            and (self.max_area is None or mask.area <= self.max_area)
        )
