"""A sample: one image on its way through the stages, and the record that it ends as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pad_pipeline.given import GivenRegion
from pad_pipeline.models.protocols import Boxes, Image, Mask, MaskedBoxes
from pad_pipeline.records import PadRecord, RecordError, Region, RegionOrigin, Tag


@dataclass(slots=True, kw_only=True)
class Sample:
    """One image and what the stages so far know of it.

    `data` are the encoded bytes, which cross process boundaries; `image` are the pixels (HWC uint8
    RGB), which never do. A sample with an `error` passes the later stages untouched. `classes` and
    `regions` are tags and boxes that were given for this image, in place of what the models would
    find; `column_tags` the tags that the source has for it.
    """

    image_id: str
    uri: str
    caption: str | None = None
    data: bytes | None = None
    image: Image | None = None
    width: int = 0
    height: int = 0
    tags: tuple[Tag, ...] = ()
    boxes: Boxes | None = None
    masks: tuple[Mask, ...] | None = None
    error: RecordError | None = None
    captions: tuple[str, ...] | None = None
    classes: tuple[str, ...] | None = None
    column_tags: tuple[str, ...] = ()
    regions: tuple[GivenRegion, ...] | None = None

    @property
    def all_captions(self) -> tuple[str, ...]:
        """Every caption of the image, `caption` first."""
        if self.captions is not None:
            return self.captions
        return () if self.caption is None else (self.caption,)

    @property
    def has_given_masks(self) -> bool:
        """Whether every box has its mask already; known after the stage that places the boxes."""
        return bool(self.regions) and all(one.rle_mask is not None for one in self.regions or ())

    @property
    def masked_boxes(self) -> MaskedBoxes:
        """Boxes and masks together, as a stage that finds both sets them."""
        presence = {tag.tag: tag.presence for tag in self.tags if tag.presence is not None}
        return MaskedBoxes(self.boxes or Boxes(), self.masks or (), presence)

    @masked_boxes.setter
    def masked_boxes(self, found: MaskedBoxes) -> None:
        self.boxes, self.masks = found.boxes, found.masks
        self.tags = tuple(replace(tag, presence=found.presence.get(tag.tag)) for tag in self.tags)

    @property
    def boxes_xyxy(self) -> NDArray[np.float32]:
        """(N, 4) float32 boxes in pixels of the image; none before the detector ran."""
        return self.boxes.xyxy if self.boxes is not None else np.zeros((0, 4), np.float32)


def without_pixels(samples: Sequence[Sample], *, keep_bytes: bool) -> list[Sample]:
    """The samples as they may leave a process: no decoded image, bytes only while needed."""
    return [
        replace(sample, image=None, data=sample.data if keep_bytes and not sample.error else None)
        for sample in samples
    ]


def to_record(sample: Sample) -> PadRecord:
    """The record of a sample that has passed all stages.

    Regions that were detected stand best score first, given ones in their order.
    """
    labels: tuple[Region, ...] = ()
    if sample.error is None:
        if sample.boxes is None or sample.masks is None:
            raise ValueError(f"{sample.image_id!r} has not passed all stages")
        origins: list[RegionOrigin] = ["model"] * len(sample.masks)
        if sample.regions is not None:
            origins = ["masks" if one.rle_mask else "boxes" for one in sample.regions]
        labels = tuple(
            Region(
                tag=label,
                score=float(score),
                bbox=(float(box[0]), float(box[1]), float(box[2]), float(box[3])),
                rle_mask=mask.counts,
                area=mask.area,
                predicted_iou=float(np.float32(mask.predicted_iou)),
                origin=origin,
                stability=_as_float32(mask.stability),
                size=(mask.height, mask.width),
            )
            for label, score, box, mask, origin in zip(
                sample.boxes.labels,
                sample.boxes.scores,
                sample.boxes.xyxy,
                sample.masks,
                origins,
                strict=True,
            )
        )
    return PadRecord(
        image_id=sample.image_id,
        uri=sample.uri,
        width=sample.width,
        height=sample.height,
        caption=sample.caption,
        status="failed" if sample.error else "ok" if labels else "empty",
        error=sample.error,
        # float32 is what a shard stores, so a record is the same before and after
        tags=tuple(
            replace(tag, score=float(np.float32(tag.score)), presence=_as_float32(tag.presence))
            for tag in sample.tags
        ),
        labels=labels,
        captions=sample.captions,
    )


def _as_float32(value: float | None) -> float | None:
    return None if value is None else float(np.float32(value))
