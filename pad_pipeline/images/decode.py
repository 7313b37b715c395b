"""Encoded image bytes to RGB arrays: content sniffing, size limits, orientation, modes."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, ImageFile, TiffImagePlugin

from pad_pipeline.errors import one_line
from pad_pipeline.images.formats import FORMATS, format_of
from pad_pipeline.images.metadata import (
    jpeg_pixels,
    jpeg_scans,
    jxl_size,
    png_pixels,
    psd_has_transparency,
)


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

_MOST_SLOW_PIXELS = 4_000_000
"""Pixels of a picture that Pillow decodes in Python, two to five seconds for each million."""

_MOST_PREVIEWS = 16

_ALREADY_UPRIGHT = ("HEIF", "JXL")
"""Formats with an orientation of their own, which decoders apply; an EXIF copy of it is not.

But a JPEG XL made of a JPEG without loss is decoded to that JPEG, which is turned by its EXIF."""

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
    the first frame is taken, of a TIFF the first page that is no preview. Transparency is
    composited on white; where nothing at all is opaque, it is left out. CMYK is converted; colour
    profiles are ignored, as the models' own loaders do.
    16-bit grey is divided by 256, 12-bit grey by 16. Floating-point and 32-bit integer pictures
    are refused, because their range is unknown.

    Raises `ImageError` for anything that is not a whole, supported image within `limits`; the size
    is read from the header, so a decompression bomb is refused before it is decoded. Thread-safe.
    """
    image = _open(data, limits)
    # A PNG may have a second EXIF block behind its pixels: the first one counts.
    first = _orientation(image) if "exif" in image.info else None
    pixels: Image.Image = image
    try:
        if _is_binary_netpbm(image):
            pixels = _load_netpbm(image)
        else:
            image.load()
    except _DECODER_ERRORS as error:
        raise ImageError(_broken(image, error)) from error
    upright = _UPRIGHT.get(_orientation(image) if first is None else first)
    try:
        if image.format == "PSD" and image.mode == "RGBA" and not psd_has_transparency(data):
            pixels = image.convert("RGB")  # the fourth channel is a selection that was saved
        rgb = _to_rgb(_usual_grey(pixels))
        if upright is not None:
            rgb = rgb.transpose(upright)
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot convert mode {image.mode} to RGB: {error}") from error
    return np.array(rgb, dtype=np.uint8)


def rgb_of(picture: Image.Image) -> np.ndarray:
    """Pixels of a picture that Pillow has opened or made, as `decode_image` gives them.

    Raises `ImageError` where it cannot be decoded or its pixels have no known range.
    """
    try:
        picture.load()
        rgb = _to_rgb(_usual_grey(picture))
        upright = _UPRIGHT.get(_orientation(picture))
        return np.array(rgb if upright is None else rgb.transpose(upright), dtype=np.uint8)
    except _DECODER_ERRORS as error:
        raise ImageError(f"cannot convert mode {picture.mode} to RGB: {error}") from error


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
    image = _open_plugin(data, limits)
    if image.format == "JPEG" and jpeg_scans(data, _MOST_SCANS + 1) > _MOST_SCANS:
        raise ImageError(
            f"more than {_MOST_SCANS} scans, where a progressive JPEG has about ten; each goes "
            "through the whole picture again"
        )
    max_pixels = limits.max_pixels
    if image.format in ("TIFF", "GIF") and Image.MAX_IMAGE_PIXELS is not None:
        # Their decoders consult Pillow's limit again and would warn; its setting is not ours.
        max_pixels = min(max_pixels, Image.MAX_IMAGE_PIXELS)
    _check_size(image.size, max_pixels)
    if _is_slow(image) and image.size[0] * image.size[1] > _MOST_SLOW_PIXELS:
        raise ImageError(
            f"{image.size[0]}x{image.size[1]} pixels of a {image.format} image of this kind "
            f"are decoded too slowly: convert it to PNG (the limit is {_MOST_SLOW_PIXELS:,} pixels)"
        )
    return image


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"the header says {width}x{height} pixels")
    if width * height > max_pixels:
        raise ImageError(
            f"{width}x{height} = {width * height:,} pixels are more than the limit of "
            f"{max_pixels:,}"
        )


def _is_slow(image: ImageFile.ImageFile) -> bool:
    """Whether Pillow goes from pixel to pixel in Python: QOI, and netpbm's numbers as text."""
    codecs = {tile[0] for tile in image.tile}
    return "qoi" in codecs or ("ppm_plain" in codecs and image.mode != "1")


def _is_binary_netpbm(image: ImageFile.ImageFile) -> bool:
    """Whether this is netpbm with another largest value than 255, which Pillow decodes slowly."""
    return image.format == "PPM" and [tile[0] for tile in image.tile] == ["ppm"]


def _load_netpbm(image: ImageFile.ImageFile) -> Image.Image:
    """The pixels of binary netpbm, scaled as Pillow does: to 255, 16-bit grey to 65535."""
    _, _, offset, args = image.tile[0]
    assert isinstance(args, tuple)
    largest = int(args[-1])
    depth = 65535 if image.mode == "I" else 255
    width, height = image.size
    assert image.fp is not None
    image.fp.seek(offset)
    kind = np.dtype(np.uint8 if largest < 256 else ">u2")
    count = width * height * len(image.getbands())
    values = np.frombuffer(image.fp.read(count * kind.itemsize), kind)
    if len(values) < count:
        raise ValueError(f"{len(values):,} of {count:,} values")
    scale = np.minimum(np.rint(np.arange(largest + 1) / largest * depth), depth)
    scaled = scale.astype(np.int32 if image.mode == "I" else np.uint8)
    shape = (height, width) if image.mode in ("L", "I") else (height, width, -1)
    return Image.fromarray(scaled[np.minimum(values, largest)].reshape(shape))


def _open_plugin(data: bytes, limits: ImageLimits) -> ImageFile.ImageFile:
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
        if form.name == "JPEG XL":  # whose plugin decodes at once
            _check_size(jxl_size(data), limits.max_pixels)
        try:
            return _whole_page(plugin(io.BytesIO(data)))
        except _DECODER_ERRORS:
            if form.name != "JPEG":
                raise
            return plugin(io.BytesIO(jpeg_pixels(data)))
    except _DECODER_ERRORS as error:
        raise ImageError(
            f"damaged or unsupported {form.name} header: {one_line(error)} (where other "
            f"programs show the image, convert it to PNG)"
        ) from error


def _whole_page(image: ImageFile.ImageFile) -> ImageFile.ImageFile:
    """The image at its first page that is no preview of another one, as TIFF has them."""
    pages = range(1, _MOST_PREVIEWS) if image.format == "TIFF" else ()
    for page in pages:
        if not image.tag_v2.get(ExifTags.Base.NewSubfileType, 0) & 1:  # type: ignore[attr-defined]
            return image
        try:
            image.seek(page)
        except EOFError:
            image.seek(0)
            return image
    return image


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1–8; 1 where there is none or the EXIF block is damaged."""
    if image.format in _ALREADY_UPRIGHT and not getattr(image, "jpeg", None):
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


def _usual_grey(image: Image.Image) -> Image.Image:
    """Grey of a TIFF as 16 bits with 0 for black, where Pillow leaves 12 bits or 0 for white."""
    tags = getattr(image, "tag_v2", {}) if image.mode.startswith("I;16") else {}
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    is_inverted = tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    if bits == 16 and not is_inverted:
        return image
    grey = np.asarray(image).astype(np.uint16) << (16 - bits)
    return Image.fromarray(0xFFFF - grey if is_inverted else grey)


def _grey_to_8_bit(image: Image.Image) -> np.ndarray:
    """(H, W) uint8 from 16-bit grey, which Pillow gives as I;16 or, in range, as 32-bit I."""
    grey = np.asarray(image)
    if grey.dtype.itemsize > 2 and (grey.min() < 0 or grey.max() > 0xFFFF):
        raise ImageError("32-bit integer pixels have no known range: convert to 8 or 16 bits")
    return (grey.astype(np.uint16) >> 8).astype(np.uint8)


def _broken(image: ImageFile.ImageFile, error: BaseException) -> str:
    size = f"{image.size[0]}x{image.size[1]}"
    return f"damaged or truncated {image.format} image of {size}: {one_line(error)}"


def _unknown(data: bytes) -> str:
    head = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for at, magic, what in _LOOKALIKES:
        if head[at : at + len(magic)] == magic:
            return f"not an image, it looks like {what}; it starts with {_shown(data)}"
    behind = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if (form := format_of(behind)) is not None:
        extra = len(data[:4096]) - len(behind)
        return f"a {form.name} image behind {extra} bytes of blanks: take them away"
    known = ", ".join(form.name for form in FORMATS if form.is_installed)
    return f"not a known image format ({known}); {_starts(data)}"


def _starts(data: bytes) -> str:
    return f"its {len(data):,} bytes start with {_shown(data)}"


def _shown(data: bytes) -> str:
    head = data[:24].lstrip()
    text = head.decode("latin-1")
    return repr(text) if text.isascii() and text.isprintable() else head.hex(" ")
