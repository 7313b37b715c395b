"""Parquet files with a column of paths or of image bytes, as Hugging Face data sets have them."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.errors import UserError, one_line
from pad_pipeline.sources.entries import BYTES_KEYS, CAPTION_KEYS, ID_KEYS, PATH_KEYS, caption_of
from pad_pipeline.sources.manifests import make_locator
from pad_pipeline.sources.rows import ManifestRow, in_container, relative_id, stem_below
from pad_pipeline.storage.parquet import ParquetFile

logger = logging.getLogger(__name__)

_ROWS_PER_BATCH = 8192
_LONGEST_REASON = 300
_LARGEST_CACHED_BYTES = 128 << 20

# Text that is not UTF-8, times out of range, columns of one name, counts that do not fit.
_DAMAGED = (pa.ArrowException, ValueError, OverflowError, LookupError)


def list_parquet(url: str, base: str, images: str | None) -> Iterator[ManifestRow]:
    """A row per row of a Parquet file.

    The id is the id column's; without one the path, or for bytes
    `<file's path below base without .parquet>/<row>`. Rows without a path are skipped and counted.
    Raises `UserError` where the file is damaged, has no usable column or is a PAD data set.
    """
    with storage.open_read(url) as file:
        size = file.seek(0, os.SEEK_END)
        parquet = _open(url, file)
        num_rows = parquet.metadata.num_rows
        if not 0 <= num_rows <= size:  # each holds a picture or names another one
            raise UserError(f"{url} is damaged: {num_rows:,} rows in {size:,} bytes")
        names = parquet.schema_arrow.names
        if {"image_id", "status", "labels"} <= set(names):
            raise UserError(f"{url} belongs to a PAD data set, which is a result; expected images")
        id_key, caption_key = _first(names, ID_KEYS), _first(names, CAPTION_KEYS)
        if "conversations" in names:
            id_key, caption_key = None, "conversations"
        try:
            column = _bytes_column(parquet)
        except _DAMAGED as error:
            raise UserError(f"{url} is damaged: {one_line(error)[:_LONGEST_REASON]}") from error
        path_column = None if column else _path_column(parquet.schema_arrow)
        if column is None and path_column is None:
            found = ", ".join(name if name.isprintable() else repr(name) for name in names)
            raise UserError(
                f"{url} should have a column of image paths (one of {', '.join(PATH_KEYS)}) or "
                f"bytes (one of {', '.join(BYTES_KEYS)}); found {found[:500]}"
            )
        wanted = [c for c in (id_key, caption_key, path_column) if c]
        shard = stem_below(url, base)
        locate = None
        num_skipped = row = 0
        try:
            for batch in _batches(parquet, wanted):
                ids = _column(batch, id_key)
                captions = _column(batch, caption_key)
                paths = _column(batch, path_column)
                if path_column and locate is None:
                    locate = make_locator(url, images, [p for p in paths[:20] if p])
                for name, caption, path in zip(ids, captions, paths, strict=True):
                    text = caption_of({caption_key: caption}) if caption_key else None
                    if column is not None:
                        uri = in_container("parquet", f"{column}/{row}", url)
                        default = f"{shard}/{row:08d}"
                        image_id = default if name is None else relative_id(str(name))
                        yield ManifestRow(image_id, uri, text, row, -1)
                    elif path:
                        assert locate is not None
                        image_id = relative_id(path if name is None else str(name))
                        uri, offset, size = locate(path)
                        yield ManifestRow(image_id, uri, text, offset, size)
                    else:
                        num_skipped += 1
                    row += 1
        except _DAMAGED as error:
            raise UserError(
                f"{url} is damaged near row {row}: {one_line(error)[:_LONGEST_REASON]}"
            ) from error
    if num_skipped:
        logger.warning("%s: %d rows without an image were skipped", url, num_skipped)


def read_parquet(url: str, member_rows: Sequence[tuple[str, int]]) -> list[bytes | Exception]:
    """The bytes at each (column, row) of a Parquet file; an exception in place of a missing one."""
    items: list[bytes | Exception] = [OSError("not read")] * len(member_rows)
    try:
        version = storage.version(url)
        with storage.open_read(url) as file:
            parquet = _open(url, file)
            metadata = parquet.metadata
            sizes = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            wanted: dict[tuple[str, int], list[tuple[int, int]]] = {}
            for index, (column, row) in enumerate(member_rows):
                group = 0
                while group < len(sizes) and row >= sizes[group]:
                    row -= sizes[group]
                    group += 1
                if group == len(sizes) or row < 0:
                    items[index] = OSError(f"{url} has no row {member_rows[index][1]}")
                else:
                    wanted.setdefault((column, group), []).append((index, row))
            for (column, group), places in wanted.items():
                rows = [row for _, row in places]
                for (index, _), item in zip(
                    places, _rows_of_group(url, version, parquet, column, group, rows), strict=True
                ):
                    items[index] = item
    except (UserError, *_DAMAGED, *storage.backend_errors()) as error:
        return [item if isinstance(item, bytes) else error for item in items]
    return items


def _rows_of_group(
    url: str, version: str, parquet: ParquetFile, column: str, group: int, rows: list[int]
) -> list[bytes | Exception]:
    chunk = _column_chunk(parquet, column, group)
    if chunk is None:
        return [OSError(f"{url} has no column {column}")] * len(rows)
    if chunk.total_uncompressed_size <= _LARGEST_CACHED_BYTES:
        values = _cached_group(url, version, column, group)
        found = {row: values[row].as_py() for row in set(rows) if row < len(values)}
    else:
        # Read as far as the last wanted row, a few rows at a time.
        found, start, last = {}, 0, max(rows)
        for batch in parquet.iter_batches(64, row_groups=[group], columns=[column]):
            values = _flat(batch.column(0))
            here = {row for row in rows if start <= row < start + len(values)}
            found.update({row: values[row - start].as_py() for row in here})
            start += len(values)
            if start > last:
                break
    return [
        value
        if isinstance(value := found.get(row), bytes)
        else OSError(f"{url} holds no image bytes in row {row} of row group {group}")
        for row in rows
    ]


@functools.lru_cache(maxsize=1)
def _cached_group(url: str, version: str, column: str, group: int) -> Any:
    """One column of one row group: consecutive calls read neighbouring rows of the same group."""
    del version  # part of the key only: a file that changed is read again
    with storage.open_read(url) as file:
        return _flat(ParquetFile(file).read_row_group(group, columns=[column]).column(0))


def _flat(values: Any) -> Any:
    """The bytes of a binary column or of a struct that was read with its bytes only."""
    while pa.types.is_struct(values.type):
        values = pc.struct_field(values, [0])  # pyright: ignore[reportAttributeAccessIssue]
    return values


def _open(url: str, file: Any) -> ParquetFile:
    try:
        parquet = ParquetFile(file)
        _ = parquet.schema_arrow.names  # which may not be text
        return parquet
    except storage.RetriesExhausted:
        raise
    except (*_DAMAGED, OSError) as error:
        raise UserError(
            f"{url} is not a readable Parquet file: {one_line(error)[:_LONGEST_REASON]}"
        ) from error


def _batches(parquet: ParquetFile, columns: list[str]) -> Iterator[pa.RecordBatch]:
    yield from parquet.iter_batches(_ROWS_PER_BATCH, columns=columns)


def _column(batch: pa.RecordBatch, name: str | None) -> list[Any]:
    if name is None:
        return [None] * batch.num_rows
    # "image.path" selects one field of a struct; the batch holds the struct with that field alone.
    return _flat(batch.column(name.partition(".")[0])).to_pylist()


def _first(names: Sequence[str], keys: Sequence[str]) -> str | None:
    return next((key for key in keys if key in names), None)


def _bytes_column(parquet: ParquetFile) -> str | None:
    """The first column of image bytes that is not null throughout, "image.bytes" for a struct."""
    schema = parquet.schema_arrow
    for key in BYTES_KEYS:
        if key not in schema.names:
            continue
        kind = schema.field(key).type
        if _is_binary(kind):
            return key
        # Where all are null, as for images kept as files, the field may have no type either.
        if pa.types.is_struct(kind) and any(f.name == "bytes" and _is_binary(f.type) for f in kind):
            column = f"{key}.bytes"
            if not _all_null(parquet, column):
                return column
    return None


def _path_column(schema: pa.Schema) -> str | None:
    for key in PATH_KEYS:
        if key in schema.names:
            kind = schema.field(key).type
            if pa.types.is_struct(kind) and "path" in [f.name for f in kind]:
                return f"{key}.path"
            if pa.types.is_string(kind) or pa.types.is_large_string(kind):
                return key
            if pa.types.is_dictionary(kind) and pa.types.is_string(kind.value_type):
                return key
    return None


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _all_null(parquet: ParquetFile, column: str) -> bool:
    for group in range(parquet.metadata.num_row_groups):
        chunk = _column_chunk(parquet, column, group)
        if chunk is None:
            return False
        statistics = chunk.statistics
        if statistics is None or not statistics.has_null_count:
            return False
        if statistics.null_count < chunk.num_values:
            return False
    return True


def _column_chunk(parquet: ParquetFile, column: str, group: int) -> Any:
    row_group = parquet.metadata.row_group(group)
    chunks = (row_group.column(i) for i in range(row_group.num_columns))
    return next((chunk for chunk in chunks if chunk.path_in_schema == column), None)
