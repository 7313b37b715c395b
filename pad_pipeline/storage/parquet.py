"""Parquet files, read on the calling thread alone.

Arrow's own threads may be the last to let go of a Python file or of a buffer of Python's, and for
that they need the interpreter: where it is ending at that moment, `std::terminate` ends the process
instead, with all its work done and exit code 134.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq


class ParquetFile:
    """A Parquet file behind a binary file or in memory; damage raises what pyarrow raises."""

    def __init__(self, source: BinaryIO | bytes) -> None:
        reader = pa.BufferReader(source) if isinstance(source, bytes) else source
        self._file = pq.ParquetFile(reader, pre_buffer=False)
        self.metadata: pq.FileMetaData = self._file.metadata
        self.schema_arrow: pa.Schema = self._file.schema_arrow

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """All rows; `columns` are names or dotted paths, all of them without."""
        return self._file.read(columns=_listed(columns), use_threads=False)

    def read_row_group(self, group: int, columns: Sequence[str] | None = None) -> pa.Table:
        """The rows of one row group."""
        return self._file.read_row_group(group, columns=_listed(columns), use_threads=False)

    def iter_batches(
        self,
        batch_size: int,
        columns: Sequence[str] | None = None,
        row_groups: Sequence[int] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """The rows of all row groups, or of those named, at most `batch_size` at a time."""
        return self._file.iter_batches(
            batch_size,
            row_groups=_listed(row_groups),
            columns=_listed(columns),
            use_threads=False,
        )


def _listed(values: Sequence | None) -> list | None:
    return None if values is None else list(values)
