"""Formats are known by what a file begins with; optional ones say which package reads them."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.PpmImagePlugin import PpmImageFile
from PIL.PsdImagePlugin import PsdImageFile

from pad_pipeline.images import ImageError, ImageLimits, decode_image, formats, image_size
from pad_pipeline.images.formats import FORMATS, IMAGE_SUFFIXES, format_of, has_image_suffix
from pad_pipeline.images.metadata import jxl_size
from tests.fuzz.seeds import psd
from tests.images.test_decode import corners, encode

LOSSLESS = {"JPEG2000": {"irreversible": False}}


@pytest.mark.parametrize("form", ["JPEG2000", "PPM", "TGA", "QOI", "PNG"])
def test_formats_that_pillow_reads_give_the_exact_pixels(form: str) -> None:
    data = encode(corners(), form, **LOSSLESS.get(form, {}))
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))
    assert image_size(data) == (48, 32)
    found = format_of(data)
    assert found is not None
    assert found.name == form


def test_a_jpeg_2000_codestream_without_its_box() -> None:
    data = encode(corners(), "JPEG2000", irreversible=False, no_jp2=True)
    np.testing.assert_array_equal(decode_image(data), np.asarray(corners()))


@given(st.sampled_from([(b"P5", 1), (b"P6", 3)]), st.integers(1, 65535), st.binary(min_size=36))
def test_netpbm_of_any_largest_value_is_scaled_as_pillow_does(
    kind: tuple[bytes, int], largest: int, content: bytes
) -> None:
    data = b"%s 3 2 %d\n" % (kind[0], largest) + content
    with PpmImageFile(io.BytesIO(data)) as image:
        expected = np.asarray(image)
    if kind[1] == 1 and largest > 255:
        expected = (expected >> 8).astype(np.uint8)
    expected = expected.reshape(2, 3, kind[1])
    np.testing.assert_array_equal(decode_image(data), np.broadcast_to(expected, (2, 3, 3)))


@pytest.mark.parametrize("largest", [255, 100, 65535])
def test_a_netpbm_that_is_cut_off_is_refused(largest: int) -> None:
    with pytest.raises(ImageError, match="truncated PPM image of 40x30"):
        decode_image(b"P6 40 30 %d\n" % largest + bytes(3000))


@pytest.mark.parametrize("data", [b"P3 3000 2000 255\n1 2 3", b"qoif\0\0\x0b\xb8\0\0\7\xd0\3\0"])
def test_a_large_picture_that_is_decoded_slowly_is_refused(data: bytes) -> None:
    for read in (decode_image, image_size):
        with pytest.raises(ImageError, match=r"3000x2000 pixels .* convert it to PNG"):
            read(data)


@pytest.mark.parametrize("mode", [1, 2, 3, 4])
def test_photoshop_files(mode: int) -> None:
    data = psd(mode, {3: 3, 4: 4}.get(mode, 1))
    with PsdImageFile(io.BytesIO(data)) as image:
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(decode_image(data), expected)


def test_a_fourth_channel_of_photoshop_is_transparency_only_where_the_file_says_so() -> None:
    saved, transparent = psd(3, 4), psd(3, 4, num_layers=-1)
    with PsdImageFile(io.BytesIO(saved)) as image:
        colours, alpha = np.split(np.asarray(image), [3], axis=2)
    np.testing.assert_array_equal(decode_image(saved), colours)
    np.testing.assert_array_equal(decode_image(psd(3, 4, num_layers=1)), colours)
    on_white = (colours * (alpha / 255) + (255 - alpha)).round()
    assert np.abs(decode_image(transparent) - on_white).max() <= 1


def test_grey_and_bilevel_netpbm() -> None:
    np.testing.assert_array_equal(
        decode_image(b"P5 2 1 255\n\x00\x80"), [[[0, 0, 0], [128, 128, 128]]]
    )
    np.testing.assert_array_equal(decode_image(b"P1\n2 1\n1 0\n"), [[[0] * 3, [255] * 3]])


@pytest.mark.parametrize("brands", [b"avif\0\0\0\0mif1miaf", b"mif1\0\0\0\0mif1avifmiaf"])
def test_an_avif_may_name_a_heif_brand_first(brands: bytes) -> None:
    found = format_of((8 + len(brands)).to_bytes(4, "big") + b"ftyp" + brands)
    assert found is not None
    assert found.name == "AVIF"


def test_a_film_is_no_image() -> None:
    assert format_of(b"\0\0\0\x18ftypisom\0\0\0\0isommp42") is None


@pytest.mark.parametrize(
    "name", ["a.JPG", "b.jfif", "c.jpe", "x/y.jp2", "d.ppm", "e.tga", "f.dib", "g.apng", "h.TIFF"]
)
def test_endings_of_images(name: str) -> None:
    assert has_image_suffix(name)


@pytest.mark.parametrize("name", ["jpg", "a.jpg.txt", "a.ico", "a.txt", "a", "a.svg"])
def test_endings_of_other_files(name: str) -> None:
    assert not has_image_suffix(name)


def test_no_ending_stands_twice() -> None:
    endings = [suffix for form in FORMATS for suffix in form.suffixes]
    assert len(set(endings)) == len(endings)
    assert {*IMAGE_SUFFIXES, *formats.OPTIONAL_SUFFIXES} == set(endings)


@pytest.mark.parametrize("options", [{}, {"compression": "tga_rle"}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_a_tga_of_the_older_form_has_no_mark(mode: str, options: dict[str, str]) -> None:
    data = encode(corners().convert(mode), "TGA", **options)
    bare = data[: data.index(b"TRUEVISION") - 8]
    np.testing.assert_array_equal(decode_image(bare), decode_image(data))


@pytest.mark.parametrize(
    "data",
    [
        bytes(64),
        encode(corners(), "ICO"),
        b"\0\0\2\0\1\0\x20\x20\0\0\1\0\1\0\x30\1\0\0\x16",  # a cursor
        b"\0\0\1\xba\x44\0\4\0\4\1" + bytes(64),  # MPEG
        b"\0\0\0\1\x67\x42\0\x1f" + bytes(64),  # H.264
    ],
)
def test_other_files_that_begin_with_zeros_are_no_tga(data: bytes) -> None:
    assert format_of(data) is None


def _heif(image: Image.Image, **options: Any) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, **options)
    return buffer.getvalue()


def _jpeg_xl(image: Image.Image, **options: Any) -> bytes:
    pytest.importorskip("pillow_jxl")
    return encode(image, "JXL", lossless=True, **options)


@pytest.mark.parametrize("encoder", [_heif, _jpeg_xl])
def test_optional_formats_are_read_where_their_package_is_there(encoder: Any) -> None:
    decoded = decode_image(encoder(corners(64, 64)))
    assert np.abs(decoded.astype(int) - np.asarray(corners(64, 64)).astype(int)).max() <= 3


@pytest.mark.parametrize("size", [(64, 64), (8, 256), (300, 257), (1200, 1000), (1920, 1080)])
@pytest.mark.parametrize("in_boxes", [False, True])
def test_the_size_of_a_jpeg_xl_is_read_from_its_header(
    size: tuple[int, int], in_boxes: bool
) -> None:
    data = _jpeg_xl(Image.new("RGB", size), use_container=in_boxes, effort=1)
    assert jxl_size(data) == size


def test_a_jpeg_xl_is_not_decoded_before_its_size_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _jpeg_xl(corners())
    monkeypatch.setattr("pillow_jxl.JpegXLImagePlugin.Decoder", None)
    with pytest.raises(ImageError, match="more than the limit of 1,000"):
        decode_image(data, ImageLimits(max_pixels=1000))


def test_a_jpeg_xl_made_of_a_turned_jpeg_is_upright(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    exif = Image.Exif()
    exif[0x0112] = 6
    jpeg, jpeg_xl = tmp_path / "x.jpg", tmp_path / "x.jxl"
    corners().save(jpeg, quality=95, exif=exif)
    with Image.open(jpeg) as image:
        image.save(jpeg_xl, lossless_jpeg=True)
    decoded = decode_image(jpeg_xl.read_bytes())
    np.testing.assert_array_equal(decoded, decode_image(jpeg.read_bytes()))
    assert image_size(jpeg_xl.read_bytes()) == decoded.shape[1::-1] == (32, 48)


@pytest.mark.parametrize("encoder", [_heif, _jpeg_xl])
def test_what_other_decoders_say_of_damage_is_one_line(encoder: Any) -> None:
    data = encoder(corners(64, 64))
    with pytest.raises(ImageError, match="damaged") as caught:
        decode_image(data[: len(data) * 3 // 4])
    assert "\n" not in str(caught.value)


def test_heif_is_turned_once() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = _heif(corners(64, 32), exif=exif.tobytes())
    decoded = decode_image(data)
    assert decoded.shape[1::-1] == image_size(data)
    if decoded.shape == (64, 32, 3):  # the encoder wrote a turn, and the decoder applied it
        assert decoded[2, 2].tolist() == pytest.approx([0, 0, 255], abs=3)
    else:
        assert decoded[2, 2].tolist() == pytest.approx([255, 0, 0], abs=3)


@pytest.mark.parametrize(
    ("data", "package"),
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "pillow-heif"),
        (b"\xff\x0a" + b"\0" * 64, "pillow-jxl-plugin"),
    ],
)
def test_without_its_package_a_format_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, data: bytes, package: str
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=rf"need {package}: .*pad-pipeline\[heif\]"):
        decode_image(data)
