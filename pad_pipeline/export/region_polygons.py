"""The polygons of a region, for formats that hold no run lengths."""

from __future__ import annotations

from pad_pipeline.polygons import Loop, simplify, trace
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.region_masks import region_mask

NO_MASK = "regions with an empty mask"
"""The reason under which reports count what has no polygon."""


def region_loops(record: PadRecord, region: Region, tolerance: float) -> list[Loop]:
    """The boundaries of the region's mask, outer ones first; none where the mask is empty.

    Raises `UserError` where the mask does not fit the record.
    """
    return [simplify(loop, tolerance) for loop in trace(region_mask(record, region))]
