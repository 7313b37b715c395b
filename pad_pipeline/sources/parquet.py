"""Parquet files with a column of paths or of image bytes, as Hugging Face data sets have them."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.errors import UserError, short_line
from pad_pipeline.sources.columns import Columns, count_images, find_columns, image_bytes
from pad_pipeline.sources.manifests import Located
from pad_pipeline.sources.rows import NOTHING_GIVEN, Given, ManifestRow, in_container
from pad_pipeline.sources.tables import DAMAGED, RowMaker
from pad_pipeline.storage.parquet import ParquetFile

_ROWS_PER_BATCH = 8192
_LARGEST_CACHED_BYTES = 128 << 20
_ROWS_OF_BYTES = 64


def list_parquet(
    url: str, base: str, images: str | None, given: Given = NOTHING_GIVEN
) -> Iterator[ManifestRow]:
    """A row per image of a Parquet file, as `tables.RowMaker` makes them.

    Rows without an image or with several are skipped and counted. Raises `UserError` where the
    file is damaged, has no usable column or is a PAD data set.
    """
    with storage.open_read(url) as file:
        size = file.seek(0, os.SEEK_END)
        parquet = _open(url, file)
        num_rows = parquet.metadata.num_rows
        if not 0 <= num_rows <= size:  # each holds a picture or names another one
            raise UserError(f"{url} is damaged: {num_rows:,} rows in {size:,} bytes")
        try:
            columns = find_columns(
                url,
                parquet.schema_arrow,
                lambda name: _all_null(parquet, name),
                lambda name: _first_value(parquet, name),
                given,
            )
        except DAMAGED as error:
            raise UserError(f"{url} is damaged: {short_line(error)}") from error
        maker = RowMaker(url, base, images, columns, given)
        try:
            if maker.may_repeat:
                for batch, counts in _small_batches(parquet, columns):
                    maker.collect(batch, counts)
            for batch, counts in _small_batches(parquet, columns):
                yield from maker.make(batch, counts, _places(url, columns.image, maker.row))
        except DAMAGED as error:
            raise UserError(
                f"{url} is damaged near row {maker.row}: {short_line(error)}"
            ) from error
    maker.report()


def _small_batches(
    parquet: ParquetFile, columns: Columns
) -> Iterator[tuple[pa.RecordBatch, list[int] | None]]:
    """The small columns of all rows, and of rows with bytes how many images each holds."""
    for group in range(parquet.metadata.num_row_groups):
        counts = None if columns.is_path else _count_images(parquet, columns.image, group)
        first = 0
        for batch in parquet.iter_batches(_ROWS_PER_BATCH, _leaves(parquet, columns), [group]):
            yield batch, counts and counts[first : first + batch.num_rows]
            first += batch.num_rows


def _places(url: str, column: str, first: int) -> Callable[[int], Located]:
    return lambda n: (in_container("parquet", f"{column}/{first + n}", url), first + n, -1)


def _leaves(parquet: ParquetFile, columns: Columns) -> list[str]:
    """The small columns, as Parquet names them."""
    names = columns.small()
    if columns.is_path and "." in columns.image:
        leaf = _column_chunk(parquet, columns.image, 0)
        names = [leaf.path_in_schema if name == columns.image else name for name in names]
    return names


def _count_images(parquet: ParquetFile, column: str, group: int) -> list[int] | None:
    """How many images each row of a row group holds; None for one each, as its statistics say."""
    chunk = _column_chunk(parquet, column, group)
    statistics = chunk.statistics
    if (
        statistics is not None
        and statistics.has_null_count
        and statistics.null_count == 0
        and chunk.num_values == parquet.metadata.row_group(group).num_rows
    ):
        return None
    name = column.partition(".")[0]
    batches = parquet.iter_batches(_ROWS_OF_BYTES, [chunk.path_in_schema], [group])
    return [count for batch in batches for count in count_images(batch.column(name), column)]


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
    except (UserError, *DAMAGED, *storage.backend_errors()) as error:
        return [item if isinstance(item, bytes) else error for item in items]
    return items


def _rows_of_group(
    url: str, version: str, parquet: ParquetFile, column: str, group: int, rows: list[int]
) -> list[bytes | Exception]:
    chunk = _column_chunk(parquet, column, group)
    if chunk is None:
        return [OSError(f"{url} has no column {column}")] * len(rows)
    if chunk.total_uncompressed_size <= _LARGEST_CACHED_BYTES:
        values = _cached_group(url, version, chunk.path_in_schema, group)
        found = {row: values[row].as_py() for row in set(rows) if row < len(values)}
    else:
        # Read as far as the last wanted row, a few rows at a time.
        found, start, last = {}, 0, max(rows)
        for batch in parquet.iter_batches(_ROWS_OF_BYTES, [chunk.path_in_schema], [group]):
            values = batch.column(0)
            here = {row for row in rows if start <= row < start + len(values)}
            found.update({row: values[row - start].as_py() for row in here})
            start += len(values)
            if start > last:
                break
    items: list[bytes | Exception] = []
    for row in rows:
        item = image_bytes(found.get(row), column)
        if item is not None:
            items.append(item)
        else:
            items.append(OSError(f"{url} holds no image bytes in row {row} of row group {group}"))
    return items


@functools.lru_cache(maxsize=1)
def _cached_group(url: str, version: str, leaf: str, group: int) -> Any:
    """One column of one row group: consecutive calls read neighbouring rows of the same group."""
    del version  # part of the key only: a file that changed is read again
    with storage.open_read(url) as file:
        return ParquetFile(file).read_row_group(group, columns=[leaf]).column(0)


def _open(url: str, file: Any) -> ParquetFile:
    try:
        parquet = ParquetFile(file)
        _ = parquet.schema_arrow.names  # which may not be text
        return parquet
    except storage.RetriesExhausted:
        raise
    except (*DAMAGED, OSError) as error:
        raise UserError(f"{url} is not a readable Parquet file: {short_line(error)}") from error


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


def _first_value(parquet: ParquetFile, column: str) -> Any:
    """The first value of a column that is not null; None without one."""
    if not parquet.metadata.num_row_groups:
        return None
    leaf = _column_chunk(parquet, column, 0).path_in_schema
    batches = parquet.iter_batches(_ROWS_OF_BYTES, [leaf])
    values = (value.as_py() for batch in batches for value in batch.column(0))
    return next((value for value in values if value), None)


def _column_chunk(parquet: ParquetFile, column: str, group: int) -> Any:
    """The chunk of a column; in a list, "images.bytes" is Parquet's images.list.element.bytes."""
    name, _, field = column.partition(".")
    row_group = parquet.metadata.row_group(group)
    for n in range(row_group.num_columns):
        chunk = row_group.column(n)
        first, *rest = chunk.path_in_schema.split(".")
        if first == name and (not field or rest[-1:] == [field]):
            return chunk
    return None
