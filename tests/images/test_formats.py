"""Formats are known by what a file begins with; optional ones say which package reads them."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.images import ImageError, decode_image, formats, image_size
from pad_pipeline.images.formats import FORMATS, IMAGE_SUFFIXES, format_of, has_image_suffix
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
