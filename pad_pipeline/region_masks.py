"""The masks of a record's regions as arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, Region


def region_mask(record: PadRecord, region: Region) -> NDArray[np.bool_]:
    """The (height, width) mask of a region; raises `UserError` where it does not fit the record."""
    try:
        return masks.decode(region.rle_mask, record.height, record.width)
    except ValueError as error:
        raise UserError(
            f"the mask of {region.tag!r} in {record.image_id} cannot be drawn: {error}; "
            "`pad-pipeline validate` lists such records"
        ) from error
