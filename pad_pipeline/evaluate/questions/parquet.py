"""Rows of the hub's Parquet files, with the images left where they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow
from pad_pipeline.sources.rows import in_container
from pad_pipeline.storage.parquet import ParquetFile

_ROWS_TOGETHER = 1024


def parquet_rows(
    source: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[dict[str, Any], ManifestRow]]:
    """(values, the place of the image in the column `image`) of every row of a Parquet file.

    Raises `UserError` where a column is missing or the file cannot be read.
    """
    try:
        with storage.open_read(source) as stream:
            file = ParquetFile(stream)
            names = file.schema_arrow.names
            if missing := [name for name in ("image", *columns) if name not in names]:
                raise UserError(
                    f"{source} has no column {', '.join(missing)}; found {', '.join(names)}"
                )
            kind = file.schema_arrow.field("image").type
            image = "image.bytes" if pa.types.is_struct(kind) else "image"
            wanted = [*columns, *(name for name in optional if name in names)]
            place = 0
            for batch in file.iter_batches(_ROWS_TOGETHER, wanted):
                for row in batch.to_pylist():
                    uri = in_container("parquet", f"{image}/{place}", source)
                    yield row, ManifestRow(f"{image}/{place}", uri, None, place, -1)
                    place += 1
    except pa.ArrowException as error:
        raise UserError(f"{source} cannot be read as Parquet ({error})") from error
