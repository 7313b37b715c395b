"""The polygons of a region, for formats that hold no run lengths."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.polygons import Loop, simplify, trace
from pad_pipeline.records import PadRecord, Region

NO_MASK = "regions with an empty mask"
"""The reason under which reports count what has no polygon."""


def region_mask(record: PadRecord, region: Region) -> NDArray[np.bool_]:
    """The (height, width) mask of a region; raises `UserError` where it does not fit the record."""
    try:
        return masks.decode(region.rle_mask, record.height, record.width)
    except ValueError as error:
        raise UserError(
            f"the mask of {region.tag!r} in {record.image_id} is damaged: {error}; "
            "`pad-pipeline validate` lists such records"
        ) from error


def region_loops(record: PadRecord, region: Region, tolerance: float) -> list[Loop]:
    """The boundaries of the region's mask, outer ones first; none where the mask is empty.

    Raises `UserError` where the mask does not fit the record.
    """
    return [simplify(loop, tolerance) for loop in trace(region_mask(record, region))]
