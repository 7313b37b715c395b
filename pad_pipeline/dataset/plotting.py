"""The picture of one record, for those who write Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pad_pipeline.dataset.record_images import read_record_images
from pad_pipeline.drawing.record import draw_record
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageError, pixels_of
from pad_pipeline.records import PadRecord
from pad_pipeline.sources import read_place

GivenImage = NDArray[np.uint8] | Image.Image | bytes | str | Path


def plot(
    record: PadRecord, image: GivenImage | None = None, *, scale: float | None = None
) -> Image.Image:
    """The image with the record's masks, boxes and tags drawn on it, RGB.

    Args:
        record: What was found.
        image: Pixels, a picture of Pillow, encoded bytes, a path or a URL; by default the image
            from where it was annotated.
        scale: Pixels of the picture per pixel of the image; by default 1, and more for images so
            small that labels would cover them.

    Raises:
        UserError: The record is of an image that failed, or the image is not there, cannot be
            decoded, or is another one.
    """
    if record.error is not None:
        raise UserError(f"{record.image_id} failed ({record.error.message}): nothing to draw")
    if image is None and not record.uri:
        raise UserError(
            f"the record of {record.image_id} does not say where its image is: give the image, "
            "record.plot(image)"
        )
    given = read_record_images([record])[0] if image is None else image
    if isinstance(given, str | Path):
        given = read_place(given)
    try:
        if isinstance(given, Exception):
            raise given
        pixels = pixels_of(given)
    except (ImageError, OSError, ValueError) as error:
        raise UserError(f"the image of {record.image_id} cannot be drawn on: {error}") from error
    return draw_record(pixels, record, scale=scale)
