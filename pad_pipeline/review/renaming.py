"""A record with the tags that its regions were given in a review."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pad_pipeline.records import PadRecord, Tag
from pad_pipeline.review.marks import RegionMarks


def rename_regions(record: PadRecord, marks: Sequence[RegionMarks]) -> PadRecord:
    """The record with new tags of regions, of which `marks` has one each, and of the image.

    Among the image's tags a new name takes the place of the old one where no region has that any
    more, except in a caption, where it is a phrase.
    """
    new_names = [None if mark.tag is None else str(mark.tag.value) for mark in marks]
    if not any(new_names):
        return record
    pairs = list(zip(record.labels, new_names, strict=True))
    labels = tuple(region if new is None else replace(region, tag=new) for region, new in pairs)
    gone = {region.tag for region, _ in pairs} - {region.tag for region in labels}
    tags = list(record.tags)
    for region, new in pairs:
        if new is None or any(tag.tag == new for tag in tags):
            continue
        old = next((tag for tag in tags if tag.tag == region.tag), None)
        place = len(tags) if old is None else tags.index(old)
        tags.insert(place, Tag(new, 1.0) if old is None else Tag(new, old.score, old.origin))
    kept = tuple(tag for tag in tags if tag.tag not in gone or tag.caption_start is not None)
    return replace(record, labels=labels, tags=kept)
