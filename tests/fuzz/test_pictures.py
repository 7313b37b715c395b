"""Pictures made to harm: enormous by their header, slow by their scans, odd in what comes along."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from pad_pipeline.images import ImageError, ImageLimits, decode_image, image_size
from tests.fuzz.seeds import PICTURE_KINDS, picture, pictures
from tests.images.test_decode import png_header


def _patched(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def _enormous(form: str) -> bytes:
    """A small picture whose header says 100,000 x 100,000 pixels, or the most that it can say."""
    data, side = picture(form), 100_000
    if form == "PNG":
        return png_header(side, side)
    if form == "GIF":
        return _patched(data, 6, b"\xff" * 4)
    if form == "BMP":
        return _patched(data, 18, struct.pack("<ii", side, side))
    if form == "JPEG":
        return _patched(data, data.index(b"\xff\xc0") + 5, b"\xff\xdc\xff\xdc")
    if form == "AVIF":
        return _patched(data, data.index(b"ispe") + 8, struct.pack(">II", side, side))
    if form == "WEBP":
        chunk = b"VP8X\x0a\0\0\0\0\0\0\0" + struct.pack("<I", 16_382)[:3] * 2
        body = b"WEBP" + chunk + data[12:]
        return b"RIFF" + struct.pack("<I", len(body)) + body
    tiff, start = data, struct.unpack_from("<I", data, 4)[0]
    for entry in range(struct.unpack_from("<H", data, start)[0]):
        at = start + 2 + 12 * entry
        if struct.unpack_from("<H", tiff, at)[0] in (256, 257):
            tiff = _patched(tiff, at + 2, struct.pack("<HII", 4, 1, side))
    return tiff


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_an_enormous_header_costs_no_memory(form: str) -> None:
    data = _enormous(form)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracemalloc.start()
        for read in (image_size, decode_image):
            with pytest.raises(ImageError):
                read(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 16 << 20


def test_the_bytes_are_bounded_before_anything_is_parsed() -> None:
    with pytest.raises(ImageError, match="bytes are more than the limit"):
        decode_image(picture("TIFF") + bytes(1000), ImageLimits(max_bytes=1000))


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    """Each scan goes through the whole picture, so a small file could keep a core for minutes."""
    data = picture("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    assert decode_image(data).shape == (16, 24, 3)
    with pytest.raises(ImageError, match="scans"):
        decode_image(data[:-2] + data[last:-2] * 500 + data[-2:])


def _with_chunk(kind: bytes, body: bytes) -> bytes:
    data = picture("PNG")
    chunk = struct.pack(">I", len(body)) + kind + body
    return data[:33] + chunk + struct.pack(">I", zlib.crc32(kind + body)) + data[33:]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"iCCP", b"name\0\0" + zlib.compress(bytes(50 << 20))),
        (b"zTXt", b"name\0\0" + zlib.compress(bytes(50 << 20))),
        (b"iTXt", b"name\0\1\0\0\0" + zlib.compress(bytes(50 << 20))),
        (b"iCCP", b"garbage"),
        (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(256)) * 30),
        (b"eXIf", b""),
    ],
)
def test_what_comes_with_a_png_is_ignored_or_refused(kind: bytes, body: bytes) -> None:
    """Text and profiles that unpack to much more than they are, EXIF that is none."""
    tracemalloc.start()
    with suppress(ImageError):
        assert decode_image(_with_chunk(kind, body)).shape == (16, 24, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 << 20


def _exif(orientation: int) -> bytes:
    body = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return struct.pack(">I", len(body)) + b"eXIf" + body + _crc(b"eXIf" + body)


def _crc(chunk: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(chunk))


@pytest.mark.parametrize(("before", "behind"), [(1, 6), (6, 1), (6, 8), (None, 6), (6, None)])
def test_the_first_exif_block_of_a_png_says_which_way_is_up(
    before: int | None, behind: int | None
) -> None:
    data = picture("PNG")
    end = data.rindex(b"IEND") - 4
    turned = data[:33] + (_exif(before) if before else b"") + data[33:end]
    turned += (_exif(behind) if behind else b"") + data[end:]
    decoded = decode_image(turned)
    counts = before or behind
    assert decoded.shape == ((24, 16, 3) if counts in (6, 8) else (16, 24, 3))
    turns = {6: 3, 8: 1}.get(counts or 1, 0)
    np.testing.assert_array_equal(decoded, np.rot90(decode_image(data), turns))
    assert image_size(turned) == decoded.shape[1::-1]


@pytest.mark.parametrize("form", PICTURE_KINDS)
def test_every_cut_is_an_error_or_the_whole_picture(form: str) -> None:
    for data in pictures(form):
        whole = decode_image(data)
        for size in [*range(0, 40, 3), *np.linspace(40, len(data) - 1, 25, dtype=int).tolist()]:
            try:
                cut = decode_image(data[:size])
            except ImageError:
                continue
            assert cut.shape == whole.shape


def test_modes_that_are_refused_or_read() -> None:
    for mode in ("1", "L", "I;16", "CMYK", "LAB", "YCbCr"):
        assert decode_image(picture("TIFF", mode)).shape == (16, 24, 3)
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((2, 2), np.float32)).save(buffer, "TIFF")
    with pytest.raises(ImageError, match="floating-point"):
        decode_image(buffer.getvalue())
