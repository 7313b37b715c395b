"""Decoding: every kind of odd image is either right to the pixel or an ImageError that says why."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pad_pipeline.images import ImageError, ImageLimits, decode_image, image_size

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")


def encode(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """Red, green, blue and white quarters, so that every turn and flip can be told apart."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    pixels[height // 2 :, width // 2 :] = (255, 255, 255)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_give_the_exact_pixels(form: str) -> None:
    decoded = decode_image(encode(corners(), form))
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    assert decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, np.asarray(corners()))


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_give_nearly_the_pixels(form: str) -> None:
    decoded = decode_image(encode(corners(), form, quality=95))
    assert decoded.shape == (32, 48, 3)
    difference = np.abs(decoded.astype(int) - np.asarray(corners()).astype(int))
    assert np.median(difference) <= 4


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if form == "WEBP" else {"quality": 100} if form == "JPEG" else {}
    data = encode(corners(), form, exif=exif.tobytes() if form != "TIFF" else exif, **options)
    # The stored pixels turned by Pillow's own tables.
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    decoded = decode_image(data)
    np.testing.assert_array_equal(decoded, upright)
    expected_size = (32, 48) if orientation >= 5 else (48, 32)
    assert image_size(data) == expected_size
    assert decoded.shape[1::-1] == expected_size


def test_orientation_6_by_hand() -> None:
    # Orientation 6: the stored top row is the right side of the upright picture.
    exif = Image.Exif()
    exif[0x0112] = 6
    decoded = decode_image(encode(corners(), "PNG", exif=exif.tobytes()))
    assert decoded[0, 0].tolist() == [0, 0, 255]  # stored bottom left
    assert decoded[0, -1].tolist() == [255, 0, 0]  # stored top left
    assert decoded[-1, -1].tolist() == [0, 255, 0]  # stored top right


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0garbage that is no TIFF header at all",
        b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\x12\x01\x05\0\xff\xff\xff\x7f" * 4,
        b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\x00\x63\0\0\0\0\0\0",  # value 99
    ],
)
def test_damaged_exif_does_not_fail_the_image(block: bytes) -> None:
    plain = encode(corners(), "JPEG", quality=95)
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    data = plain[:2] + segment + plain[2:]
    np.testing.assert_array_equal(decode_image(data), decode_image(plain))
    assert image_size(data) == (48, 32)


def test_transparency_is_composited_on_white() -> None:
    rgba = Image.new("RGBA", (4, 1))
    rgba.putdata([(255, 0, 0, 255), (255, 0, 0, 0), (0, 0, 0, 128), (10, 20, 30, 255)])
    decoded = decode_image(encode(rgba, "PNG"))
    assert decoded[0].tolist() == [[255, 0, 0], [255, 255, 255], [127, 127, 127], [10, 20, 30]]


def test_palette_with_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 255, 0, 255, 0])
    palette.putdata([0, 1])
    for form in ("PNG", "GIF"):
        decoded = decode_image(encode(palette, form, transparency=1))
        assert decoded[0].tolist() == [[0, 0, 255], [255, 255, 255]], form
        opaque = decode_image(encode(palette, form))
        assert opaque[0].tolist() == [[0, 0, 255], [0, 255, 0]], form


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    decoded = decode_image(encode(Image.new("RGB", (5, 3), "white").convert(mode), "PNG"))
    np.testing.assert_array_equal(decoded, np.full((3, 5, 3), 255, np.uint8))


def test_cmyk() -> None:
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    for data in (encode(cyan, "JPEG", quality=95), encode(cyan, "TIFF")):
        middle = decode_image(data)[8, 8].astype(int)
        assert np.abs(middle - (0, 255, 255)).max() <= 3


def test_16_bit_grey_is_divided_by_256() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    for form in ("PNG", "TIFF"):
        decoded = decode_image(encode(Image.fromarray(values), form))
        assert decoded[0, :, 0].tolist() == [0, 0, 1, 128, 255], form
        assert (decoded[..., 0] == decoded[..., 1]).all()
        assert (decoded[..., 0] == decoded[..., 2]).all()


def _grey_tiff(bits: int, photometric: int, content: bytes) -> bytes:
    """A TIFF of one row of two grey pixels."""
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 122, 277: 1, 278: 1}
    tags[279] = len(content)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + content


@pytest.mark.parametrize(
    ("bits", "photometric", "content", "grey"),
    [
        (16, 1, b"\0\x20\xff\xff", [32, 255]),
        (16, 0, b"\0\x20\xff\xff", [223, 0]),
        (12, 1, b"\x20\x0f\xff", [32, 255]),
        (8, 0, b"\x20\xff", [223, 0]),
    ],
)
def test_grey_of_a_tiff_in_12_bits_or_with_0_for_white(
    bits: int, photometric: int, content: bytes, grey: list[int]
) -> None:
    assert decode_image(_grey_tiff(bits, photometric, content))[0, :, 0].tolist() == grey


@pytest.mark.parametrize("first_is_preview", [True, False])
def test_a_preview_before_the_picture_of_a_tiff_is_passed_over(first_is_preview: bool) -> None:
    picture = corners()
    picture.encoderinfo = {"tiffinfo": {}}
    preview = corners(12, 8)
    data = encode(
        preview,
        "TIFF",
        save_all=True,
        append_images=[picture],
        tiffinfo={254: int(first_is_preview)},
    )
    expected = picture if first_is_preview else preview
    np.testing.assert_array_equal(decode_image(data), np.asarray(expected))
    assert image_size(data) == expected.size


def test_a_tiff_of_previews_alone_gives_the_first() -> None:
    data = encode(corners(), "TIFF", tiffinfo={254: 1})
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))


@pytest.mark.parametrize("blanks", [b"\n", b"\r\n\r\n", b"\xef\xbb\xbf"])
def test_blanks_before_an_image_are_named(blanks: bytes) -> None:
    with pytest.raises(ImageError, match=f"a JPEG image behind {len(blanks)} bytes of blanks"):
        decode_image(blanks + encode(corners(), "JPEG"))


def test_32_bit_grey_in_16_bit_range_and_beyond() -> None:
    inside = Image.fromarray(np.array([[0, 65535]], np.int32))
    assert decode_image(encode(inside, "TIFF"))[0, :, 0].tolist() == [0, 255]
    outside = Image.fromarray(np.array([[0, 65536]], np.int32))
    with pytest.raises(ImageError, match="32-bit"):
        decode_image(encode(outside, "TIFF"))


def test_float_is_refused() -> None:
    with pytest.raises(ImageError, match="floating-point"):
        decode_image(encode(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
def test_animation_gives_its_first_frame(form: str) -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options = {"lossless": True} if form == "WEBP" else {}
    data = encode(red, form, save_all=True, append_images=[blue], **options)
    np.testing.assert_array_equal(decode_image(data), np.asarray(red))


@pytest.mark.parametrize(("width", "height"), [(1, 4000), (4000, 1), (1, 1)])
def test_extreme_shapes(width: int, height: int) -> None:
    assert decode_image(encode(Image.new("RGB", (width, height)), "PNG")).shape == (
        height,
        width,
        3,
    )


@pytest.mark.parametrize("form", [*FORMATS, "AVIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_is_an_error_never_grey(form: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), form)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * share)])


def test_the_message_of_a_truncated_jpeg_says_so() -> None:
    data = encode(corners(640, 480), "JPEG")
    with pytest.raises(ImageError, match="truncated JPEG image of 640x480"):
        decode_image(data[:-200])
    assert image_size(data[:-200]) == (640, 480)


def test_empty() -> None:
    with pytest.raises(ImageError, match="empty"):
        decode_image(b"")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\r\n<!DOCTYPE html><html>404</html>", "a web page; it starts with '<!DOCTYPE html>"),
        (b"\xef\xbb\xbf<HTML><body>", "a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied', "an XML document"),
        (b'{"error": "not found"}', "JSON"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "video"),
        (b"\x7fELF\x02\x01\x01", "7f 45 4c 46"),
        (b"\0" * 100, "not a known image format"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, said: str) -> None:
    with pytest.raises(ImageError, match="not a") as caught:
        decode_image(data)
    assert said in str(caught.value)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds hardly any pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_from_its_header_without_a_warning() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for width, height in ((60_000, 60_000), (12_000, 12_000)):
            with pytest.raises(ImageError, match="pixels are more than the limit"):
                decode_image(png_header(width, height))
            with pytest.raises(ImageError, match="pixels are more than the limit"):
                image_size(png_header(width, height))
        # Within our limit, above the one at which Image.open would warn.
        assert image_size(png_header(12_000, 9_000)) == (12_000, 9_000)
        bilevel = encode(Image.new("1", (12_000, 12_000)), "TIFF", compression="group4")
        with pytest.raises(ImageError, match="limit"):
            decode_image(bilevel, ImageLimits(max_pixels=1 << 30))


def test_limits() -> None:
    data = encode(corners(), "PNG")
    assert decode_image(data, ImageLimits(max_pixels=48 * 32)).shape == (32, 48, 3)
    with pytest.raises(ImageError, match=r"48x32 = 1,536 pixels .* 1,535"):
        decode_image(data, ImageLimits(max_pixels=48 * 32 - 1))
    with pytest.raises(ImageError, match=f"{len(data)} bytes"):
        decode_image(data, ImageLimits(max_bytes=len(data) - 1))


@pytest.mark.parametrize(("width", "height"), [(0, 10), (10, 0), (0, 0)])
def test_zero_sizes(width: int, height: int) -> None:
    gif = b"GIF89a" + struct.pack("<HHBBB", width, height, 0, 0, 0) + b";"
    for data in (png_header(width, height), gif):
        with pytest.raises(ImageError):
            decode_image(data)


def test_pillow_settings_are_left_alone() -> None:
    from PIL import ImageFile

    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    decode_image(encode(corners(), "JPEG"))
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_threads() -> None:
    pictures = [Image.new("RGB", (64, 64), (n, 255 - n, n)) for n in range(64)]
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(lambda picture: decode_image(encode(picture, "PNG")), pictures))
    for picture, pixels in zip(pictures, decoded, strict=True):
        np.testing.assert_array_equal(pixels, np.asarray(picture))


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=100, deadline=None)
@given(
    form=st.sampled_from([*FORMATS, "AVIF"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8),
    early=st.booleans(),
)
def test_damage_gives_an_image_or_an_image_error(
    form: str, changes: list[tuple[float, int]], early: bool
) -> None:
    data = bytearray(encode(corners(), form))
    reach = min(len(data), 128) if early else len(data)
    for where, value in changes:
        data[int(where * (reach - 1))] = value
    limits = ImageLimits(max_pixels=1_000_000)
    try:
        width, height = image_size(bytes(data), limits)
        decoded = decode_image(bytes(data), limits)
    except ImageError:
        return
    assert decoded.shape == (height, width, 3)
