"""Records as JSON can hold them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from pad_pipeline.records import PadRecord


def to_pad_json(record: PadRecord) -> dict[str, Any]:
    """The record with exactly the keys of Table 9; `size` is [width, height]."""
    return {
        "image_id": record.image_id,
        "size": [record.width, record.height],
        "caption": record.caption or "",
        "labels": [
            {"tag": region.tag, "bbox": list(region.bbox), "rle_mask": region.rle_mask}
            for region in record.labels
        ],
    }


def to_dict(record: PadRecord) -> dict[str, Any]:
    """Every field of the record under its name in the Parquet files."""
    values = asdict(record)
    for region in values["labels"]:
        del region["size"]  # of the record itself
    return values
