"""Bytes of manifest rows: files of their own and items in zip, tar, Parquet and JSONL files."""

from __future__ import annotations

import base64
import bz2
import json
import os
import stat
import struct
import zlib
from collections.abc import Callable, Sequence

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources.archives import tar_members, zip_index
from pad_pipeline.sources.parquet import read_parquet
from pad_pipeline.sources.ranges import MAX_ITEM_BYTES, Item, fetch, read_ranges, too_large
from pad_pipeline.sources.rows import ManifestRow, file_name, location_error, split_uri

_ZIP_HEADER = struct.Struct("<4s5H3I2H")  # APPNOTE 4.3.7: the local file header
_ZIP_SLACK = 128
_SUSPICIOUS_BYTES = 64 << 20
_SUSPICIOUS_RATIO = 100


def read_many(rows: Sequence[ManifestRow]) -> list[Item]:
    """The bytes of every row, in order; an item that cannot be read is the exception in its place.

    Nothing is raised for an item and nothing is dropped. Each container is opened once per call;
    remote objects are read concurrently. An item larger than `MAX_ITEM_BYTES` counts as
    unreadable. A row of a container whose offset and size are -1, as made from a uri alone, is
    looked up in the container's directory.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    items: list[Item] = [OSError("not read")] * len(rows)
    for index, row in enumerate(rows):
        chained = split_uri(row.uri)
        refused = location_error(row.uri if chained is None else chained[2])
        if refused is not None:
            items[index] = refused
            continue
        key = ("file", _place(row.uri)) if chained is None else (chained[0], chained[2])
        groups.setdefault(key, []).append(index)
    for (kind, where), indices in groups.items():
        chosen = [rows[index] for index in indices]
        for index, item in zip(indices, _READERS[kind](where, chosen), strict=True):
            items[index] = item
    return items


def _place(uri: str) -> str:
    """What files must share to be fetched by one file system object: protocol and host."""
    if storage.local_path(uri) is not None:
        return ""
    return "/".join(uri.split("/", 3)[:3])


def _read_files(place: str, rows: Sequence[ManifestRow]) -> list[Item]:
    if not place:
        return [_read_local(row.uri) for row in rows]
    small = [row for row in rows if row.size <= MAX_ITEM_BYTES]
    # The end bounds the memory where no listing has the size; elsewhere it is past the last byte.
    found = iter(fetch([(row.uri, 0, MAX_ITEM_BYTES + 1) for row in small]))
    items = [next(found) if r.size <= MAX_ITEM_BYTES else too_large(r.size) for r in rows]
    return [
        too_large(len(item)) if isinstance(item, bytes) and len(item) > MAX_ITEM_BYTES else item
        for item in items
    ]


def _read_local(uri: str) -> Item:
    item = _read_path(uri, uri)
    if isinstance(item, FileNotFoundError) and file_name(uri) != uri:
        # Rows are UTF-8, file names need not be: listing has written their other bytes as \udcff.
        item = _read_path(uri, file_name(uri))
        if isinstance(item, FileNotFoundError):
            return FileNotFoundError(
                f"{uri} is not there, neither under this name nor under one that is not UTF-8 "
                f"(\\udc80 to \\udcff stand for single bytes): rename the file"
            )
    return item


def _read_path(uri: str, name: str) -> Item:
    path = storage.local_path(name)
    assert path is not None
    try:
        # Not blocking, because opening a named pipe would otherwise wait for a writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                return OSError(f"{uri} is a device or pipe, not a file")
            if found.st_size > MAX_ITEM_BYTES:
                return too_large(found.st_size)
            return file.read()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        return error


def _read_zip(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    """Reads each member from its local header on, without the archive's directory."""
    names = _names(rows)
    spans = _spans(url, rows, names, zip_index)
    # The local header's own lengths are known only once it is read; a guess saves a second read.
    guessed = [
        span
        if isinstance(span, Exception)
        else (span[0], span[1] + _ZIP_HEADER.size + len(name.encode()) + _ZIP_SLACK)
        for span, name in zip(spans, names, strict=True)
    ]
    items: list[Item] = []
    for span, name, item in zip(spans, names, read_ranges(url, guessed), strict=True):
        if isinstance(item, Exception) or isinstance(span, Exception):
            items.append(item)
        else:
            try:
                items.append(_zip_member(url, name, span, item))
            except (OSError, ValueError, EOFError, zlib.error, struct.error) as error:
                items.append(OSError(f"member {name!r} of {url} is damaged: {error}"))
    return items


def _zip_member(url: str, name: str, span: tuple[int, int], head: bytes) -> bytes:
    fields = _ZIP_HEADER.unpack_from(head)
    magic, _, flags, method, _, _, crc, _, _, name_size, extra_size = fields
    if magic != b"PK\x03\x04":
        raise OSError("no ZIP header; did the archive change since it was listed?")
    if flags & 1:
        raise OSError("it is protected by a password: unpack the archive first")
    offset, size = span
    start = _ZIP_HEADER.size + name_size + extra_size
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


def _read_tar(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    def index(url: str) -> dict[str, tuple[int, int]]:
        return {member.name: (member.offset, member.size) for member in tar_members(url)}

    spans = _spans(url, rows, _names(rows), index)
    return [
        OSError(f"{url} is cut off: {len(item):,} of {span[1]:,} bytes")
        if isinstance(item, bytes) and not isinstance(span, Exception) and len(item) < span[1]
        else item
        for item, span in zip(read_ranges(url, spans), spans, strict=True)
    ]


def _names(rows: Sequence[ManifestRow]) -> list[str]:
    return [chained[1] if (chained := split_uri(row.uri)) else "" for row in rows]


def _spans(
    url: str,
    rows: Sequence[ManifestRow],
    names: Sequence[str],
    make_index: Callable[[str], dict[str, tuple[int, int]]],
) -> list[tuple[int, int] | Exception]:
    """(offset, size) of each row; the index is made only where a row does not say."""
    index: dict[str, tuple[int, int]] = {}
    if any(row.offset < 0 and row.size < 0 for row in rows):
        try:
            index = make_index(url)
        except (UserError, *storage.backend_errors()) as error:
            return [error] * len(rows)
    spans: list[tuple[int, int] | Exception] = []
    for row, name in zip(rows, names, strict=True):
        span = (row.offset, row.size) if row.offset >= 0 else index.get(name)
        spans.append(span or FileNotFoundError(f"{url} has no member {name!r}"))
    return spans


def _read_parquet(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    members = [name.rpartition("/") for name in _names(rows)]
    # A row that is no number is one that the file does not have.
    return read_parquet(
        url, [(c, int(row) if row.isdecimal() and len(row) < 20 else -1) for c, _, row in members]
    )


def _read_jsonl(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    members = [name.rpartition("/") for name in _names(rows)]
    lines = read_ranges(
        url, [_line(url, row, member[2]) for row, member in zip(rows, members, strict=True)]
    )
    items: list[Item] = []
    for (key, _, offset), line in zip(members, lines, strict=True):
        try:
            if isinstance(line, Exception):
                raise line
            items.append(base64.b64decode(json.loads(line)[key], validate=True))
        except (
            *(UserError, ValueError, TypeError, LookupError, RecursionError),
            *storage.backend_errors(),
        ) as error:
            items.append(OSError(f"no base64 image at byte {offset} of {url}: {error}"))
    return items


def _line(url: str, row: ManifestRow, offset: str) -> tuple[int, int] | Exception:
    """Where a line of JSONL lies; its length is looked for where the row does not say."""
    try:
        start, size = int(offset), row.size
        if size < 0:
            with storage.open_read(url) as file:
                file.seek(start)
                size = len(file.readline(MAX_ITEM_BYTES + 1))
        return start, size
    except (UserError, ValueError, OverflowError, *storage.backend_errors()) as error:
        return error


_READERS: dict[str, Callable[[str, Sequence[ManifestRow]], list[Item]]] = {
    "file": _read_files,
    "zip": _read_zip,
    "tar": _read_tar,
    "parquet": _read_parquet,
    "jsonl": _read_jsonl,
}
