"""What can be read of an encoded image, or left out of it, before it is decoded.

Text, colour profiles, thumbnails and whatever an editor or a camera adds do not change the picture
that we read, but a decoder that parses them can refuse the file for their size or their damage.
Only what says which side is up is kept.
"""

from __future__ import annotations

import re
import struct
import zlib

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_NEEDED = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_PNG_ORIENTATION = (b"XML:com.adobe.xmp", b"Raw profile type exif", b"Raw profile type APP1")
_MOST_TEXT = 1 << 20
"""Bytes of text of a PNG that Pillow parses at most (`PngImagePlugin.MAX_TEXT_CHUNK`)."""

_JPEG_KEPT = (0xE0, 0xE1, 0xEE)
"""JFIF, EXIF and Adobe's colour transform; the other application segments are not needed."""
# in entropy-coded data a 0xff is followed by 0, by a restart marker, or ends it
_JPEG_MARKER = re.compile(rb"\xff+([\x01-\xcf\xd8-\xfe])")


def png_pixels(data: bytes) -> bytes:
    """A PNG with the chunks that its first picture needs, and its orientation.

    Bytes that do not have the form of chunks are kept as they are, for the decoder to refuse.
    """
    kept, position, start = [data[: len(_PNG_SIGNATURE)]], len(_PNG_SIGNATURE), 0
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data) or not kind.isalpha():
            break
        if kind in _PNG_NEEDED or _is_orientation(kind, data[position + 4 : end]):
            kept.append(data[position:end])
        position = end
        if kind == b"IEND":
            return b"".join(kept)
    start = position
    return b"".join([*kept, data[start:]])


def _is_orientation(kind: bytes, chunk: bytes) -> bool:
    """Whether a chunk (its name, content and checksum) is whole and may say which side is up."""
    if kind not in (b"eXIf", b"tEXt", b"zTXt", b"iTXt"):
        return False
    content = chunk[4:-4]
    if zlib.crc32(chunk[:-4]) != int.from_bytes(chunk[-4:], "big"):
        return False
    if kind == b"eXIf":
        return True
    keyword, _, rest = content.partition(b"\0")
    if keyword not in _PNG_ORIENTATION:
        return False
    if kind == b"tEXt":
        return len(rest) <= _MOST_TEXT
    if kind == b"iTXt":
        is_packed = rest[:1] == b"\1"
        rest = rest[2:].split(b"\0", 2)[-1]
        if not is_packed:
            return len(rest) <= _MOST_TEXT
    else:
        rest = rest[1:]
    unpacker = zlib.decompressobj()
    try:
        unpacker.decompress(rest, _MOST_TEXT)
    except zlib.error:
        return False
    return unpacker.eof


def jpeg_pixels(data: bytes) -> bytes:
    """A JPEG without comments and those application segments that its picture does not need.

    Bytes that do not have the form of segments are kept as they are, for the decoder to refuse.
    """
    kept, position = [data[:2]], 2
    while (marker := _JPEG_MARKER.match(data, position)) and marker[1][0] != 0xDA:
        code, begin = marker[1][0], marker.end()
        if begin + 2 > len(data):
            break
        end = begin + int.from_bytes(data[begin : begin + 2], "big")
        is_extra = code == 0xFE or (0xE0 <= code <= 0xEF and code not in _JPEG_KEPT)
        if not is_extra:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]])


def jpeg_scans(data: bytes, enough: int) -> int:
    """How many scans the first picture of a JPEG has, counted up to `enough`.

    A thumbnail in the metadata and what follows the picture, such as the film of a phone's photo,
    have start markers too; they are not counted.
    """
    scans, position = 0, 2
    while scans < enough and (marker := _JPEG_MARKER.search(data, position)):
        code, position = marker[1][0], marker.end()
        if code == 0xD9:
            break
        if code == 0x01 or code == 0xD8:
            continue
        scans += code == 0xDA
        position += int.from_bytes(data[position : position + 2], "big")
    return scans


_JXL_BOXES = b"\0\0\0\x0cJXL \r\n\x87\n"
_JXL_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
"""Width to height for the codes 1 to 7 (ISO 18181-1, SizeHeader)."""


def jxl_size(data: bytes) -> tuple[int, int]:
    """(width, height) in the header of a JPEG XL, before its orientation.

    The decoder has no such function: it decodes the whole picture first. Raises `ValueError` where
    there is no header.
    """
    bits = int.from_bytes(_jxl_codestream(data)[2:14], "little")

    def take(count: int) -> int:
        nonlocal bits
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    is_small = take(1)

    def side() -> int:
        if is_small:
            return 8 * (take(5) + 1)
        return 1 + take((9, 13, 18, 30)[take(2)])

    height = side()
    ratio = take(3)
    if not ratio:
        return side(), height
    over, under = _JXL_RATIOS[ratio - 1]
    return height * over // under, height


def _jxl_codestream(data: bytes) -> bytes:
    """The first bytes of the codestream, which stands by itself or in boxes, one or several."""
    if not data.startswith(_JXL_BOXES):
        return data[:64]
    parts, position = b"", 0
    while len(parts) < 64 and position + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, position)
        start, end = position + 8, position + size
        if size == 1 and start + 8 <= len(data):
            end = position + int.from_bytes(data[start : start + 8], "big")
            start += 8
        elif size == 0:
            end = len(data)
        if end < start:
            break
        if kind in (b"jxlc", b"jxlp"):
            start += 4 if kind == b"jxlp" else 0
            parts += data[start : min(end, start + 64)]
        position = end
    if not parts.startswith(b"\xff\x0a"):
        raise ValueError("no codestream in its boxes")
    return parts


def psd_has_transparency(data: bytes) -> bool:
    """Whether the first channel behind the colours of Photoshop's file is transparency.

    Its number of layers is negative then; else that channel is a selection that somebody saved.
    """
    position = 26
    for _ in ("colours", "resources"):
        position += 4 + int.from_bytes(data[position : position + 4], "big")
    layers = position + 8  # behind the lengths of the section and of its list of layers
    is_there = int.from_bytes(data[position + 4 : layers], "big") >= 2
    return is_there and int.from_bytes(data[layers : layers + 2], "big", signed=True) < 0
