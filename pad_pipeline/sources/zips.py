"""Images in ZIP files: listed by the directory, read by position."""

from __future__ import annotations

import bz2
import logging
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources.left_out import LeftOut
from pad_pipeline.sources.members import check_member, link_message, member_names, member_spans
from pad_pipeline.sources.ranges import MAX_ITEM_BYTES, Item, read_ranges
from pad_pipeline.sources.rows import ManifestRow, in_container, is_image_name, relative_id

logger = logging.getLogger(__name__)

_HEADER = struct.Struct("<4s5H3I2H")  # APPNOTE 4.3.7: the local file header
_SLACK = 128
_SUSPICIOUS_BYTES = 64 << 20
_SUSPICIOUS_RATIO = 100

# What zipfile raises on bytes that are not a ZIP file, beside OSError.
_DAMAGED = (
    *(zipfile.BadZipFile, NotImplementedError, ValueError, EOFError, struct.error),
    *(LookupError, OverflowError, MemoryError),
)


def list_zip(url: str, left_out: LeftOut) -> Iterator[ManifestRow]:
    """A row per image of a ZIP file, in the order of its directory; ids are the members' paths.

    Ids are the members' names as `member_id` reads them.
    """
    for name, (offset, size) in zip_index(url).items():
        path = member_id(name)
        if is_image_name(path):
            yield ManifestRow(path, in_container("zip", name, url), None, offset, size)
        else:
            left_out.add(path)


def member_id(name: str) -> str:
    """A member's name with slashes for Windows' backslashes, without "./" before it, in UTF-8.

    Many programs write UTF-8 without the flag that says so, which makes it code page 437.
    """
    if not name.isascii():
        with suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return relative_id(name) if "\\" in name else name.removeprefix("./")


def zip_index(url: str) -> dict[str, tuple[int, int]]:
    """Member name -> (byte offset of its local header, compressed size), folders left out.

    Raises `UserError` for a damaged file and for members that are links or whose name leaves the
    archive.
    """
    index: dict[str, tuple[int, int]] = {}
    num_replaced = 0
    with storage.open_read(url) as file:
        try:
            members = zipfile.ZipFile(file).infolist()
            end = file.seek(0, os.SEEK_END)
        except _DAMAGED as error:
            raise UserError(
                f"{url} is not a readable ZIP file (cut off or damaged): {error}"
            ) from error
    for member in members:
        if not member.filename.endswith(("/", "\\")):
            check_member(member.filename, url)
            if not 0 <= member.header_offset < end:
                raise UserError(
                    f"{url} is damaged: its directory places {member.filename!r} outside the file"
                )
            if stat.S_ISLNK(member.external_attr >> 16):
                raise UserError(link_message(member.filename, url))
            num_replaced += member.filename in index
            index[member.filename] = (member.header_offset, member.compress_size)
    if num_replaced:
        logger.warning("%s: %s members replace earlier ones of their name", url, num_replaced)
    return index


def read_zip(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    """The bytes of each row's member; an exception in place of one that cannot be read.

    Members are read from their local headers on, without the archive's directory.
    """
    names = member_names(rows)
    spans = member_spans(url, rows, names, zip_index)
    # The local header's own lengths are known only once it is read; a guess saves a second read.
    guessed = [
        span
        if isinstance(span, Exception)
        else (span[0], span[1] + _HEADER.size + len(name.encode()) + _SLACK)
        for span, name in zip(spans, names, strict=True)
    ]
    items: list[Item] = []
    for span, name, item in zip(spans, names, read_ranges(url, guessed), strict=True):
        if isinstance(item, Exception) or isinstance(span, Exception):
            items.append(item)
        else:
            try:
                items.append(_read_member(url, name, span, item))
            except (OSError, ValueError, EOFError, zlib.error, struct.error) as error:
                items.append(OSError(f"member {name!r} of {url} is damaged: {error}"))
    return items


def _read_member(url: str, name: str, span: tuple[int, int], head: bytes) -> bytes:
    fields = _HEADER.unpack_from(head)
    magic, _, flags, method, _, _, crc, _, _, name_size, extra_size = fields
    if magic != b"PK\x03\x04":
        raise OSError("no ZIP header; did the archive change since it was listed?")
    if flags & 1:
        raise OSError("it is protected by a password: unpack the archive first")
    offset, size = span
    start = _HEADER.size + name_size + extra_size
    data = head[start : start + size]
    if len(data) < size:
        (rest,) = read_ranges(url, [(offset + start, size)])
        if isinstance(rest, Exception):
            raise rest
        data = rest
    if method == 8:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        data = inflate.decompress(data, _most_bytes(len(data)))
        if not inflate.eof:
            raise OSError(_CUT_OFF)
    elif method == 12:
        inflate = bz2.BZ2Decompressor()
        data = inflate.decompress(data, _most_bytes(len(data)))
        if not inflate.eof:
            raise OSError(_CUT_OFF)
    elif method != 0:
        raise OSError(f"compression method {method} is not supported: pack again with deflate")
    # Bit 3: the checksum follows the data, outside what was read.
    if not flags & 8 and zlib.crc32(data) != crc:
        raise OSError("the checksum does not fit")
    return data


_CUT_OFF = (
    f"cut off, or it unpacks to more than an image has: {MAX_ITEM_BYTES >> 20} MiB, or "
    f"{_SUSPICIOUS_BYTES >> 20} MiB where that is {_SUSPICIOUS_RATIO} times its packed size"
)


def _most_bytes(packed: int) -> int:
    """How far a member is unpacked: many small ones must not fill the memory (a "ZIP bomb")."""
    return min(MAX_ITEM_BYTES, max(_SUSPICIOUS_BYTES, _SUSPICIOUS_RATIO * packed))
