"""The viewer's pictures: thumbnails, whole images, and each region's mask as a layer over one."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Hashable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pad_pipeline import storage
from pad_pipeline.dataset.record_images import read_record_images
from pad_pipeline.drawing.colours import Colour
from pad_pipeline.drawing.crop import draw_crop
from pad_pipeline.drawing.record import draw_layer, draw_record
from pad_pipeline.errors import UserError, first_line
from pad_pipeline.images import ImageError, decode_image, image_size
from pad_pipeline.records import PadRecord
from pad_pipeline.view.cache import ByteCache

THUMB_SIDE = 440
"""Longest side of a thumbnail in pixels: twice what it takes on the page, for sharp screens."""
CROP_SIDE = 320
_LARGEST_SIDE = 2400
_CACHE_BYTES = 96 << 20
_PIXELS_KEPT = 48 << 20
_BYTES_KEPT = 16 << 20
_QUALITY = 86


class NoPicture(Exception):
    """An image that cannot be shown; the message is the reason, for people."""


class Pictures:
    """Draws from the images at their records' uri, or below `images`; keeps what was drawn last.

    Nothing is passed on as it is: an image is decoded and encoded again, so that only pictures
    leave the server, whatever the uris of a data set from elsewhere point at.
    """

    def __init__(self, images: str | None) -> None:
        self.images = images
        self._encoded = ByteCache(_CACHE_BYTES)
        self._bytes = ByteCache(_BYTES_KEPT)
        self._pixels = ByteCache(_PIXELS_KEPT)
        self._turns = threading.BoundedSemaphore(2)  # decoded images take memory

    def thumbnail(self, record: PadRecord, *, boxes: bool = True) -> bytes:
        """A JPEG of at most `THUMB_SIDE` pixels, with masks and, if wanted, boxes."""

        def draw() -> bytes:
            pixels = self.pixels(record)
            height, width = pixels.shape[:2]
            scale = THUMB_SIDE / max(height, width)
            if not record.labels:
                return _jpeg(_scaled(pixels, min(scale, 1.0)))
            return _jpeg(
                draw_record(pixels, record, scale=scale, boxes=boxes, labels=False, font_size=12)
            )

        return self._drawn(("thumbnail", boxes, _identity(record)), draw)

    def whole(self, record: PadRecord) -> bytes:
        """The image as a JPEG, at its own size unless that is very large."""

        def draw() -> bytes:
            pixels = self.pixels(record)
            return _jpeg(_scaled(pixels, min(1.0, _LARGEST_SIDE / max(pixels.shape[:2]))))

        return self._drawn(("whole", _identity(record)), draw)

    def masks(self, record: PadRecord) -> bytes:
        """The image with its masks as a JPEG, without boxes and labels."""

        def draw() -> bytes:
            return _jpeg(draw_record(self.pixels(record), record, boxes=False, labels=False))

        return self._drawn(("masks", _identity(record)), draw)

    def annotated(self, record: PadRecord) -> bytes:
        """The picture that `render` draws, as a PNG."""
        return self._drawn(
            ("annotated", _identity(record)), lambda: _png(draw_record(self.pixels(record), record))
        )

    def layer(self, record: PadRecord, number: int, part: str, tint: Colour | None = None) -> bytes:
        """The "fill" or the "rim" of a region's mask as a PNG of the whole image's shape.

        It has the tag's colour unless another is given. Raises `NoPicture` where the mask is
        damaged.
        """

        def draw() -> bytes:
            scale = layer_scale(record)
            try:
                fill, rim = draw_layer(record, record.labels[number], scale, tint)
            except UserError as error:
                raise NoPicture(str(error)) from error
            # Pages load both, so both are drawn at once.
            drawn = {"fill": _png(fill), "rim": _png(rim)}
            for name, data in drawn.items():
                self._encoded.put(("layer", number, name, tint, _identity(record)), data, len(data))
            return drawn[part]

        return self._drawn(("layer", number, part, tint, _identity(record)), draw)

    def crop(self, record: PadRecord, number: int, *, dimmed: bool) -> bytes:
        """A region cut out as a JPEG of at most `CROP_SIDE` pixels; raises `NoPicture`."""

        def draw() -> bytes:
            region = record.labels[number]
            try:
                return _jpeg(
                    draw_crop(self.pixels(record), record, region, CROP_SIDE, dimmed=dimmed)
                )
            except UserError as error:
                raise NoPicture(str(error)) from error

        return self._drawn(("crop", number, dimmed, _identity(record)), draw)

    def missing(self, record: PadRecord) -> str | None:
        """Why the record's image cannot be shown, by its header alone; None where it can."""
        try:
            data = self._read(record)
            try:
                width, height = image_size(data)
            except ImageError as error:
                raise NoPicture(f"the image cannot be decoded: {error}") from error
            _check_size(record, width, height)
        except NoPicture as reason:
            return str(reason)
        return None

    def pixels(self, record: PadRecord) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB of the record's image; raises `NoPicture` where there is none."""

        def decode() -> NDArray[np.uint8]:
            try:
                pixels = decode_image(self._read(record))
            except ImageError as error:
                raise NoPicture(f"the image cannot be decoded: {error}") from error
            _check_size(record, pixels.shape[1], pixels.shape[0])
            return pixels

        return self._pixels.get(_identity(record), decode, lambda pixels: pixels.nbytes)

    def _read(self, record: PadRecord) -> bytes:
        if record.status == "failed":
            raise NoPicture("the image failed, so there is nothing to draw")
        self._check_inside(record)

        def read() -> bytes:
            try:
                [data] = read_record_images([record], self.images)
            except UserError as error:
                raise NoPicture(str(error)) from error
            if isinstance(data, Exception):
                raise NoPicture(f"the image is not there: {first_line(data)}") from data
            return data

        return self._bytes.get(_identity(record), read, len)

    def _check_inside(self, record: PadRecord) -> None:
        """No id leads out of the image folder, by whatever dots and links."""
        root = storage.local_path(self.images) if self.images is not None else None
        if root is None or not root.is_dir():
            return
        try:
            place = Path(storage.join(str(root), record.image_id)).resolve()
            inside = place.is_relative_to(root.resolve())
        except (OSError, ValueError, RuntimeError) as error:
            raise NoPicture(f"the image's name cannot be used: {first_line(error)}") from error
        if not inside:
            raise NoPicture("the image's name leads out of the image folder, so it is not read")

    def _drawn(self, key: Hashable, draw: Callable[[], bytes]) -> bytes:
        def in_turn() -> bytes:
            with self._turns:
                return draw()

        return self._encoded.get(key, in_turn, len)


def layer_scale(record: PadRecord) -> float:
    """Pixels of a layer per pixel of the image: more for small images, fewer for large ones."""
    longest = max(record.width, record.height, 1)
    return min(max(1.0, 900 / longest), 1400 / longest)


def _check_size(record: PadRecord, width: int, height: int) -> None:
    if (width, height) != (record.width, record.height):
        raise NoPicture(
            f"the image was annotated at {record.width}×{record.height} pixels and has "
            f"{width}×{height} now: it was changed since"
        )


def _identity(record: PadRecord) -> Hashable:
    return record.image_id, record.uri, len(record.labels), hash(record.labels)


def _scaled(pixels: NDArray[np.uint8], scale: float) -> Image.Image:
    image = Image.fromarray(pixels)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    return image


def _jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=_QUALITY)
    return file.getvalue()


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=3)
    return file.getvalue()
