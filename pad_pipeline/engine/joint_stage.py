"""One stage in the place of detect, suppress and segment, for a detector that draws masks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from pad_pipeline.engine.keep import MaskLimits, survivors
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stage_config import SuppressConfig
from pad_pipeline.engine.stages import ModelStage, pixels_of
from pad_pipeline.models.protocols import Boxes, MaskDetector, MaskedBoxes


def detect_masks_stage(
    detector: MaskDetector,
    suppression: SuppressConfig,
    *,
    limits: MaskLimits | None = None,
    negative: Collection[str] = (),
    **options: Any,
) -> ModelStage:
    """SAM 3, in the place of detect, suppress and segment: sets `masked_boxes`.

    Boxes are suppressed as by `suppress_stage` before the masks are drawn, so that none is drawn
    for a box that goes. Masks beyond the `limits` go with their boxes; an image without tags is
    skipped.
    """
    limits = limits or MaskLimits()

    def choose(index: int, boxes: Boxes) -> list[int]:
        return survivors(boxes, suppression, negative)

    def work(samples: Sequence[Sample]) -> list[MaskedBoxes]:
        if any(sample.regions is not None for sample in samples):
            raise ValueError("boxes are given, and no segmenter is loaded")
        tags = [list(dict.fromkeys(tag.tag for tag in sample.tags)) for sample in samples]
        return [
            _within(limits, found)
            for found in detector.detect_masks(pixels_of(samples), tags, choose)
        ]

    return ModelStage(
        "detect",
        work,
        "masked_boxes",
        has_work=lambda s: bool(s.tags or s.regions),
        nothing=MaskedBoxes(),
        **options,
    )


def _within(limits: MaskLimits, found: MaskedBoxes) -> MaskedBoxes:
    kept = limits.kept(found.masks)
    masks = tuple(found.masks[number] for number in kept)
    return MaskedBoxes(found.boxes.take(kept), masks, found.presence)
