"""Bytes of manifest rows: files of their own and items in the files that hold many."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

from pad_pipeline import storage
from pad_pipeline.sources.arrow import read_arrow
from pad_pipeline.sources.jsonl import read_jsonl
from pad_pipeline.sources.members import member_names
from pad_pipeline.sources.parquet import read_parquet
from pad_pipeline.sources.ranges import MAX_ITEM_BYTES, Item, fetch, too_large
from pad_pipeline.sources.rows import ManifestRow, file_name, location_error, split_uri
from pad_pipeline.sources.tars import read_tar
from pad_pipeline.sources.zips import read_zip


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


def read_place(place: str | Path) -> Item:
    """The bytes of one file by its path or URL; the exception where it cannot be read."""
    return read_many([ManifestRow(str(place), str(place), None)])[0]


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


def _read_parquet(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    members = [name.rpartition("/") for name in member_names(rows)]
    # A row that is no number is one that the file does not have.
    return read_parquet(
        url, [(c, int(row) if row.isdecimal() and len(row) < 20 else -1) for c, _, row in members]
    )


_READERS: dict[str, Callable[[str, Sequence[ManifestRow]], list[Item]]] = {
    "file": _read_files,
    "zip": read_zip,
    "tar": read_tar,
    "parquet": _read_parquet,
    "arrow": lambda url, rows: read_arrow(url, member_names(rows)),
    "jsonl": read_jsonl,
}
