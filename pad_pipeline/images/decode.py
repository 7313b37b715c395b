"""Encoded image bytes to RGB arrays: content sniffing, size limits, orientation, modes."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageFile

from pad_pipeline.images.formats import FORMATS, format_of
from pad_pipeline.images.metadata import jpeg_pixels, jpeg_scans, png_pixels


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may cost before it is refused without being decoded."""

    max_pixels: int = 128_000_000
    """Largest width times height. TIFF and GIF also keep to Pillow's own MAX_IMAGE_PIXELS."""

    max_bytes: int = 512 * 1024 * 1024
    """Largest encoded size, in bytes."""


class ImageError(Exception):
    """This image cannot be used; the message says what is wrong with it, for the record."""


_LOOKALIKES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"<!doctype html", "a web page"),
    (0, b"<html", "a web page"),
    (0, b"<svg", "an SVG drawing"),
    (0, b"<?xml", "an XML document"),
    (0, b"{", "JSON text"),
    (0, b"version https://git-lfs", "a Git LFS pointer: run `git lfs pull`"),
    (0, b"%pdf", "a PDF document"),
    (0, b"pk\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip data"),
    (4, b"ftyp", "a video"),
)

# What Pillow's decoders are known to raise for damaged data; MemoryError is left to the caller.
_DECODER_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)

_MOST_SCANS = 200

_ALREADY_UPRIGHT = ("HEIF", "JXL")
"""Formats with an orientation of their own, which decoders apply; an EXIF copy of it is not."""

# EXIF orientation -> what makes the picture upright (TIFF 6.0, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def decode_image(data: bytes, limits: ImageLimits = ImageLimits()) -> np.ndarray:
    """The picture as (height, width, 3) uint8 RGB, 0–255, upright after EXIF orientation.

    The content decides about the format (see `formats.FORMATS`), not a file name. Of an animation
    the first frame is taken. Transparency is composited on white; where nothing at all is opaque,
    it is left out. CMYK is converted; colour profiles are ignored, as the models' own loaders do.
    16-bit grey is divided by 256. Floating-point and 32-bit integer pictures are refused, because
    their range is unknown.

    Raises `ImageError` for anything that is not a whole, supported image within `limits`; the size
    is read from the header, so a decompression bomb is refused before it is decoded. Thread-safe.
    """
    image = _open(data, limits)
    # A PNG may have a second EXIF block behind its pixels: the first one counts.
    first = _orientation(image) if "exif" in image.info else None
    try:
        image.load()
    except _DECODER_ERRORS as error:
        raise ImageError(_broken(image, error)) from error
    upright = _UPRIGHT.get(_orientation(image) if first is None else first)
    try:
        rgb = _to_rgb(image)
        if upright is not None:
            rgb = rgb.transpose(upright)
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot convert mode {image.mode} to RGB: {error}") from error
    return np.array(rgb, dtype=np.uint8)


def image_size(data: bytes, limits: ImageLimits = ImageLimits()) -> tuple[int, int]:
    """(width, height) in pixels after EXIF orientation, the shape that `decode_image` gives.

    Only the header is read, except of a PNG without EXIF there: it may stand behind the pixels.
    Raises `ImageError` as `decode_image` does, except for damage behind the header.
    """
    image = _open(data, limits)
    width, height = image.size
    # Pillow's TIFF reader turns the picture, and its size, by itself.
    if image.format != "TIFF" and _orientation(image) >= 5:
        return height, width
    return width, height


def _open(data: bytes, limits: ImageLimits) -> ImageFile.ImageFile:
    if not data:
        raise ImageError("the file is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageError(f"{len(data):,} bytes are more than the limit of {limits.max_bytes:,}")
    image = _open_plugin(data)
    if image.format == "JPEG" and jpeg_scans(data, _MOST_SCANS + 1) > _MOST_SCANS:
        raise ImageError(
            f"more than {_MOST_SCANS} scans, where a progressive JPEG has about ten; each goes "
            "through the whole picture again"
        )
    width, height = image.size
    if width < 1 or height < 1:
        raise ImageError(f"the header says {width}x{height} pixels")
    max_pixels = limits.max_pixels
    if image.format in ("TIFF", "GIF") and Image.MAX_IMAGE_PIXELS is not None:
        # Their decoders consult Pillow's limit again and would warn; its setting is not ours.
        max_pixels = min(max_pixels, Image.MAX_IMAGE_PIXELS)
    if width * height > max_pixels:
        raise ImageError(
            f"{width}x{height} = {width * height:,} pixels are more than the limit of "
            f"{max_pixels:,}"
        )
    return image


def _open_plugin(data: bytes) -> ImageFile.ImageFile:
    """The image with its header read, whatever lies beside the pixels."""
    # Each plugin is called by itself, not through Image.open: the content decides (never the name),
    # formats that nobody expects are not tried, and Image.open's process-wide bomb warning cannot
    # fire before the size is compared with our own limit.
    form = format_of(data)
    if form is None:
        raise ImageError(_unknown(data))
    if not form.is_installed:
        raise ImageError(
            f"{form.name} images need {form.package}: install it with pip install "
            "'pad-pipeline[heif]', or convert the image to JPEG"
        )
    plugin = form.load_plugin()
    try:
        if form.name == "PNG":
            return plugin(io.BytesIO(png_pixels(data)))
        try:
            return plugin(io.BytesIO(data))
        except _DECODER_ERRORS:
            if form.name != "JPEG":
                raise
            return plugin(io.BytesIO(jpeg_pixels(data)))
    except _DECODER_ERRORS as error:
        raise ImageError(f"damaged or unsupported {form.name} header: {error}") from error


def _orientation(image: ImageFile.ImageFile) -> int:
    """EXIF orientation 1–8; 1 where there is none or the EXIF block is damaged."""
    if image.format in _ALREADY_UPRIGHT:
        return 1
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        return Image.fromarray(_grey_to_8_bit(image)).convert("RGB")
    if image.mode == "F":
        raise ImageError("floating-point pixels have no known range: convert to 8 or 16 bits")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        if rgba.getchannel("A").getextrema() == (0, 0):
            # the fourth byte of a BMP, and of whatever was made from one, is often padding
            return rgba.convert("RGB")
        white = Image.new("RGB", image.size, (255, 255, 255))
        white.paste(rgba, mask=rgba.getchannel("A"))
        return white
    return image.convert("RGB")


def _grey_to_8_bit(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 from 16-bit grey, which Pillow gives as I;16 or, in range, as 32-bit I."""
    grey = np.asarray(image)
    if grey.dtype.itemsize > 2 and (grey.min() < 0 or grey.max() > 0xFFFF):
        raise ImageError("32-bit integer pixels have no known range: convert to 8 or 16 bits")
    return (grey.astype(np.uint16) >> 8).astype(np.uint8)


def _broken(image: ImageFile.ImageFile, error: BaseException) -> str:
    return f"damaged or truncated {image.format} image of {image.size[0]}x{image.size[1]}: {error}"


def _unknown(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for at, magic, what in _LOOKALIKES:
        if head[at : at + len(magic)] == magic:
            return f"not an image, it looks like {what}; it starts with {_shown(data)}"
    known = ", ".join(form.name for form in FORMATS if form.is_installed)
    return f"not a known image format ({known}); {_starts(data)}"


def _starts(data: bytes) -> str:
    return f"its {len(data):,} bytes start with {_shown(data)}"


def _shown(data: bytes) -> str:
    head = data[:24].lstrip()
    text = head.decode("latin-1")
    return repr(text) if text.isascii() and text.isprintable() else head.hex(" ")
