"""The marks of a review as pages show them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pad_pipeline.records import PadRecord, Region
from pad_pipeline.review.events import Event, region_digest
from pad_pipeline.review.marks import ImageMarks, Marks
from pad_pipeline.review.renaming import rename_regions
from pad_pipeline.view.index import Row


def regions_of(rows: Sequence[Row]) -> list[Region]:
    """An image's regions from rows of the index, without their masks."""
    return [
        Region(
            tag=row["tag"],
            score=row["score"],
            bbox=(row["x0"], row["y0"], row["x1"], row["y1"]),
            rle_mask="",
            area=row["area"],
            predicted_iou=row["predicted_iou"],
        )
        for row in rows
    ]


def image_state(marks: Marks, image_id: str, regions: Sequence[Region]) -> dict[str, Any]:
    """The marks of an image and of its regions, as JSON; `unmatched` counts those of no region."""
    image = marks.images.get(image_id, ImageMarks())
    of_regions = image.of_regions(regions)
    matched = sum(mark.verdict is not None or mark.tag is not None for mark in of_regions)
    return {
        "verdict": _shown(image.verdict),
        "unmatched": len(image.regions) - matched,
        "regions": [
            {
                "digest": region_digest(region),
                "verdict": _shown(mark.verdict),
                "tag": _shown(mark.tag),
            }
            for region, mark in zip(regions, of_regions, strict=True)
        ],
    }


def _shown(event: Event | None) -> dict[str, Any] | None:
    return None if event is None else {"value": event.value, "by": event.by, "at": event.at}


def renamed(record: PadRecord, marks: Marks) -> PadRecord:
    """The record with the tags that its regions were given."""
    image = marks.images.get(record.image_id)
    return record if image is None else rename_regions(record, image.of_regions(record.labels))


def renamed_rows(rows: Sequence[Row], marks: Marks, image_id: str) -> list[Row]:
    """The rows of an image's regions with the tags that these were given."""
    image = marks.images.get(image_id)
    if image is None:
        return list(rows)
    of_regions = image.of_regions(regions_of(rows))
    return [
        row if mark.tag is None else {**row, "tag": str(mark.tag.value)}
        for row, mark in zip(rows, of_regions, strict=True)
    ]
