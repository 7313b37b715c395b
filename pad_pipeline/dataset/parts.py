"""What an unfinished run has of shards that are not whole yet: parts, with a column of chunks."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.storage.parquet import ParquetFile

PARTS = "_run/progress/"
"""Below a data set's folder."""
_CHUNK = "chunk"
_SHARD = re.compile(r"pad-(\d+)\.parquet")
_OPEN_SHARDS = 8


def list_parts(url: str, manifest: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """What a run has written of the next few shards that are not among `names`.

    Names below the data set's folder. They last until their shard is whole.
    """
    num_images, num_rows = manifest.get("num_images"), manifest.get("rows_per_shard")
    if not isinstance(num_images, int) or not isinstance(num_rows, int) or num_rows < 1:
        return []
    there = {int(match[1]) for name in names if (match := _SHARD.fullmatch(name))}
    absent = (shard for shard in range(-(-num_images // num_rows)) if shard not in there)
    return [
        f"{PARTS}{shard:05d}/{name}"
        for shard in islice(absent, _OPEN_SHARDS)
        for name in storage.list_files(storage.join(url, f"{PARTS}{shard:05d}"), ".parquet")
    ]


def without_chunk(schema: pa.Schema) -> pa.Schema:
    """The columns of a part as those of a shard, which has one less."""
    return schema.remove(len(schema) - 1) if schema.names[-1:] == [_CHUNK] else schema


def iter_new_rows(
    file: ParquetFile, batch_rows: int, columns: Sequence[str] | None, finished: set[int]
) -> Iterator[pa.RecordBatch]:
    """A part's rows as a shard has them, without chunks that are `finished`; adds its own there.

    Two commands that ran on one output may have done a chunk twice.
    """
    wanted = without_chunk(file.schema_arrow).names if columns is None else columns
    before, own = pa.array(finished, pa.int64()), set[int]()
    for batch in file.iter_batches(batch_rows, [*wanted, _CHUNK]):
        chunks = batch.column(_CHUNK)
        own.update(pc.unique(chunks).to_pylist())
        yield batch.filter(pc.invert(pc.is_in(chunks, before))).drop_columns([_CHUNK])
    finished |= own
