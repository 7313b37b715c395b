"""Shards of a data set: their names, their bytes, their entries in the manifest."""

from __future__ import annotations

import hashlib
import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage.parquet import ParquetFile


def shard_name(shard: int, num_shards: int) -> str:
    """The file name of a shard; names sort in the order of the images."""
    width = max(5, len(str(num_shards - 1)))
    return f"pad-{shard:0{width}d}.parquet"


def write_table(url: str, table: pa.Table, row_group_size: int | None = None) -> None:
    """Writes a Parquet file whole or not at all; the same table gives the same bytes."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    storage.write_atomic(url, sink.getvalue())


def read_table(url: str, columns: list[str] | None = None) -> pa.Table:
    """A file that `write_table` wrote; raises `UserError` where it is damaged."""
    try:
        return ParquetFile(storage.read_bytes(url)).read(columns)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{url} cannot be read ({error}); delete it and run the same command again"
        ) from error


def manifest_entry(dataset_url: str, name: str, num_rows: int) -> dict[str, Any]:
    """What the manifest says of a shard that is complete: name, rows, SHA-256 of its bytes."""
    data = storage.read_bytes(storage.join(dataset_url, name))
    return {"name": name, "rows": num_rows, "sha256": hashlib.sha256(data).hexdigest()}
