"""What lies beside the pixels neither fails an image nor counts as pixels."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from pad_pipeline.images import ImageError, decode_image, image_size
from pad_pipeline.images.metadata import jpeg_pixels, jpeg_scans, png_pixels
from tests.images.test_decode import corners, encode

HUGE = 1_500_000


def png_chunk(kind: bytes, content: bytes, checksum: int | None = None) -> bytes:
    if checksum is None:
        checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def with_chunks(chunks: Iterable[bytes], *, at_end: bool = False) -> bytes:
    """The corners as a PNG with chunks behind its header, or behind its pixels."""
    data = encode(corners(), "PNG")
    place = len(data) - 12 if at_end else 33
    return data[:place] + b"".join(chunks) + data[place:]


PNG_EXTRAS = {
    "long text": png_chunk(b"tEXt", b"workflow\0" + b"node " * (HUGE // 5)),
    "packed text": png_chunk(b"zTXt", b"workflow\0\0" + zlib.compress(b"x" * HUGE)),
    "packed XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(b"x" * HUGE)),
    "plain XMP": png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * HUGE),
    "colour profile": png_chunk(b"iCCP", b"icc\0\0" + zlib.compress(bytes(HUGE))),
    "broken profile": png_chunk(b"iCCP", b"icc\0\0no zlib stream"),
    "raw EXIF profile": png_chunk(
        b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(b"0" * HUGE)
    ),
    "many small texts": png_chunk(b"tEXt", b"k\0" + b"v" * 60_000) * 1200,
    "text with a wrong checksum": png_chunk(b"tEXt", b"k\0v", checksum=1),
    "EXIF with a wrong checksum": png_chunk(b"eXIf", b"MM\0*", checksum=1),
    "a chunk that nobody knows": png_chunk(b"caBX", b"\0" * HUGE),
    "an empty text": png_chunk(b"zTXt", b""),
}


@pytest.mark.parametrize("at_end", [False, True])
@pytest.mark.parametrize("name", PNG_EXTRAS)
def test_a_png_with_much_beside_its_pixels(name: str, at_end: bool) -> None:
    data = with_chunks([PNG_EXTRAS[name]], at_end=at_end)
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))
    assert image_size(data) == (48, 32)


def test_what_says_which_side_is_up_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    raw = b"\nexif\n%8d\n%s\n" % (len(exif.tobytes()), exif.tobytes().hex().encode())
    for chunk in (
        png_chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp),
        png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp)),
        png_chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(raw)),
    ):
        data = with_chunks([PNG_EXTRAS["long text"], chunk])
        assert decode_image(data)[0, 0].tolist() == [0, 0, 255], chunk[4:30]
        assert image_size(data) == (32, 48)


def test_an_animated_png_is_its_first_frame() -> None:
    data = encode(corners(), "PNG", save_all=True, append_images=[Image.new("RGB", (48, 32))])
    assert b"acTL" in data
    assert b"acTL" not in png_pixels(data)
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))


def test_transparency_of_a_png_is_kept() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putdata([0, 1])
    data = encode(palette, "PNG", transparency=1)
    assert png_pixels(data) == data
    assert decode_image(data)[0].tolist() == [[0, 0, 255], [255, 255, 255]]


def test_a_png_that_is_damaged_is_left_to_the_decoder() -> None:
    data = encode(corners(), "PNG")
    for damaged in (
        data[:50],
        data[: len(data) // 2],
        data[:33] + b"\xff" * 40 + data[33:],
        data[:8],
    ):
        assert png_pixels(damaged).startswith(damaged[:8])
        with pytest.raises(ImageError):
            decode_image(damaged)


def test_text_that_pillow_itself_writes() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", "node " * 300_000, zip=True)
    data = encode(corners(), "PNG", pnginfo=info, icc_profile=bytes(HUGE))
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))


def segment(code: int, content: bytes) -> bytes:
    return b"\xff" + bytes([code]) + struct.pack(">H", len(content) + 2) + content


def scans_in(number: int) -> bytes:
    return b"\xff\xda" * number


@pytest.mark.parametrize(
    "place", ["a comment", "a thumbnail", "behind the picture", "a film behind the picture"]
)
def test_only_the_scans_of_the_picture_count(place: str) -> None:
    plain = encode(corners(), "JPEG", quality=95)
    extra = {
        "a comment": segment(0xFE, scans_in(1000)),
        "a thumbnail": segment(0xE5, scans_in(1000)),
    }.get(place)
    if extra is not None:
        data = plain[:2] + extra + plain[2:]
    else:
        film = b"\0\0\0\x18ftypmp42" if "film" in place else b""
        data = plain + film + scans_in(5000)
    np.testing.assert_array_equal(decode_image(data), decode_image(plain))


def test_scans_are_counted_up_to_a_bound() -> None:
    plain = encode(corners(), "JPEG", quality=95, progressive=True)
    number = jpeg_scans(plain, 100)
    assert 5 < number < 20
    assert jpeg_scans(plain, 3) == 3
    start = plain.index(b"\xff\xda")
    end = plain.index(b"\xff\xda", start + 2)
    many = plain[:end] + plain[start:end] * 300 + plain[end:]
    assert jpeg_scans(many, 1000) == number + 300
    with pytest.raises(ImageError, match="more than 200 scans"):
        decode_image(many)


@pytest.mark.parametrize(
    "extra",
    [
        segment(0xED, b"Photoshop 3.0\0" + b"8BIM" + b"\xff" * 40),
        segment(0xE2, b"ICC_PROFILE\0\x01\xff" + bytes(60_000)) * 30,
        segment(0xE2, b"MPF\0" + b"\xff" * 60),
        segment(0xFE, b"comment " * 8_000),
        segment(0xEC, b"Ducky\0\1\0\4"),
    ],
)
def test_segments_that_a_jpeg_does_not_need(extra: bytes) -> None:
    plain = encode(corners(), "JPEG", quality=95)
    data = plain[:20] + extra + plain[20:]
    np.testing.assert_array_equal(decode_image(data), decode_image(plain))
    assert jpeg_pixels(data) == plain


@pytest.mark.parametrize("form", ["BMP", "PNG", "TIFF", "WEBP"])
def test_alpha_that_is_nowhere_opaque_is_none(form: str) -> None:
    rgba = corners().convert("RGBA")
    rgba.putalpha(0)
    if form == "BMP":
        pixels = np.asarray(rgba)[::-1, :, [2, 1, 0, 3]].tobytes()
        masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
        header = (
            struct.pack("<IiiHHIIiiII", 108, 48, 32, 1, 32, 3, len(pixels), 2835, 2835, 0, 0)
            + masks
            + b"BGRs"
            + bytes(48)
        )
        size = 14 + len(header) + len(pixels)
        data = b"BM" + struct.pack("<IHHI", size, 0, 0, 14 + len(header)) + header + pixels
    else:
        options = {"lossless": True, "exact": True} if form == "WEBP" else {}
        data = encode(rgba, form, **options)
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))
