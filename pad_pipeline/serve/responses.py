"""What a response holds: a PAD record as JSON, or its picture as PNG."""

from __future__ import annotations

import io
from typing import Any

from pad_pipeline.drawing.record import draw_record
from pad_pipeline.engine.isolation import QUARANTINED
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.images import ImageLimits, decode_image
from pad_pipeline.record_json import to_dict
from pad_pipeline.records import PadRecord, RecordError
from pad_pipeline.serve.api_error import ApiError
from pad_pipeline.serve.parameters import Thresholds

LONGEST_SIDE = 4096
"""Of a rendered picture, in pixels; larger images are drawn smaller."""


def selected_record(sample: Sample, thresholds: Thresholds) -> PadRecord:
    """The record of an annotated sample, with the regions that pass the thresholds."""
    return thresholds.select(to_record(sample))


def record_json(record: PadRecord) -> dict[str, Any]:
    """Every field of the record, under its name in the Parquet files."""
    return to_dict(record)


def raise_for_error(record: PadRecord) -> None:
    """Raise `ApiError` where the image failed."""
    if record.error is not None:
        raise _to_api_error(record.error)


def _to_api_error(error: RecordError) -> ApiError:
    if error.stage == "decode":
        return ApiError(400, "not_an_image", error.message)
    if error.type == QUARANTINED:
        return ApiError(
            500, "worker_died", f"the stage {error.stage} failed repeatedly: {error.message}"
        )
    message = f"the stage {error.stage} failed on this image: {error.type}: {error.message}"
    return ApiError(500, "stage_failed", message)


def render_png(data: bytes, record: PadRecord, limits: ImageLimits) -> bytes:
    """The image with the record's regions drawn on it, as `pad-pipeline render` draws them."""
    longest = max(record.width, record.height)
    scale = LONGEST_SIDE / longest if longest > LONGEST_SIDE else None
    picture = draw_record(decode_image(data, limits), record, scale=scale)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
