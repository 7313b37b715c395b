"""Which regions and images of a data set a reader wants: by score, area, predicted IoU and tag."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import Fraction, check_limits
from pad_pipeline.records import PadRecord, Region, Status
from pad_pipeline.storage.id_files import read_ids


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a data set is read; all of it by default. Nothing on disk changes."""

    min_score: Fraction = 0.0
    """Lowest score of the detector (0–1)."""
    min_area: int = 0
    """Smallest mask, in pixels."""
    max_area: int | None = None
    """Largest mask, in pixels."""
    min_predicted_iou: Fraction = 0.0
    """Lowest quality that the segmenter itself expects of its mask (0–1)."""
    tags: tuple[str, ...] = ()
    """Only these tags; all when empty."""
    exclude_tags: tuple[str, ...] = ()
    """None of these tags."""
    status: tuple[Status, ...] = ()
    """Only images of these statuses, judged after the regions are chosen; all when empty."""
    ids: str | None = None
    """File with the ids of the images, one per line; without it all of them."""

    def __post_init__(self) -> None:
        check_limits(self)
        if self.max_area is not None and self.max_area < self.min_area:
            raise UserError(
                "no region can pass: ",
                Setting("max_area", self.max_area),
                " is below ",
                Setting("min_area", self.min_area),
            )
        both = set(self.tags) & set(self.exclude_tags)
        if both:
            raise UserError(f"these tags are both selected and excluded: {', '.join(sorted(both))}")

    def passing(self, record: PadRecord) -> Sequence[int]:
        """The numbers of the record's regions that pass, in their order."""
        if self._takes_everything():
            return range(len(record.labels))
        # Thresholds are compared as float32, the shards' own precision: 0.7 must pass 0.7.
        score, quality = np.float32(self.min_score), np.float32(self.min_predicted_iou)
        return [
            number
            for number, region in enumerate(record.labels)
            if region.score >= score
            and (not quality or region.predicted_iou >= quality)  # SAM's may fall below 0
            and self._takes_area(region)
            and self._takes_tag(region.tag)
        ]

    def apply(self, record: PadRecord, passing: Sequence[int] | None = None) -> PadRecord:
        """The record with the regions and tags that pass, in their order.

        An "ok" record that loses all its regions becomes "empty"; whether its status is wanted is
        `keeps`' question. `passing` are the numbers that `passing` gave, where they are known.
        """
        if self._takes_everything():
            return record
        passing = self.passing(record) if passing is None else passing
        labels = tuple(record.labels[number] for number in passing)
        return replace(
            record,
            tags=tuple(tag for tag in record.tags if self._takes_tag(tag.tag)),
            labels=labels,
            status="empty" if record.status == "ok" and not labels else record.status,
        )

    def keeps(self, record: PadRecord) -> bool:
        """Whether the record, as `apply` returned it, is wanted at all.

        Raises `UserError` where the file of ids cannot be read.
        """
        if self.ids is not None and record.image_id not in read_ids(self.ids):
            return False
        return not self.status or record.status in self.status

    def _takes_everything(self) -> bool:
        return replace(self, status=(), ids=None) == Selection()

    def _takes_area(self, region: Region) -> bool:
        return self.min_area <= region.area and (
            self.max_area is None or region.area <= self.max_area
        )

    def _takes_tag(self, tag: str) -> bool:
        return (not self.tags or tag in self.tags) and tag not in self.exclude_tags
