"""What a run has finished: the list of its images, the parts of open shards, the shards.

    OUTPUT/_manifest.json        what the run is; "state" becomes "finished" at the very end
    OUTPUT/_run/images.parquet   the images in order, one row group per shard
    OUTPUT/_run/progress/<k>/    parts of shard k: chunks in the order in which they came
    OUTPUT/pad-<k>.parquet       shard k, complete: the k-th range of the images in their order

Every file appears whole under its name or not at all, so a run killed at any moment leaves only
files that the next one can trust. A chunk is finished when a part or a shard holds it. `_run/` is
removed when all shards are there.
"""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.annotate.run_files import (
    images_url,
    progress_url,
    read_images,
    remove_run_files,
)
from pad_pipeline.annotate.shard_layout import ShardLayout
from pad_pipeline.dataset.manifest import write_manifest
from pad_pipeline.dataset.writer import manifest_entry, read_table, write_table
from pad_pipeline.records import as_version

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.5

_CHUNK = pa.field("chunk", pa.int64(), nullable=False)


@dataclass
class Ledger:
    """The durable state of one run. Made by `open_or_resume`, used by one process at a time."""

    output: str
    layout: ShardLayout
    manifest: dict[str, Any]
    done: np.ndarray
    """(number of chunks,) bool."""
    num_failed: int = 0
    num_finished: int = 0
    _buffer: dict[int, pa.Table] = field(default_factory=dict)
    _last_flush_s: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether the data set is complete."""
        return self.manifest["state"] == "finished"

    @property
    def images_url(self) -> str:
        """Where the list of the images lies."""
        return images_url(self.output)

    def pending(self) -> Iterator[tuple[int, list[int]]]:
        """(shard, its unfinished chunks) for every unfinished shard, in order."""
        for shard in range(self.layout.num_shards):
            chunks = [chunk for chunk in self.layout.chunks_of(shard) if not self.done[chunk]]
            if chunks:
                yield shard, chunks

    def commit(self, chunk: int, table: pa.Table) -> None:
        """Commit the records of one chunk (`PAD_SCHEMA`, one row per image, in order).

        A chunk that is committed already is ignored. A run that an earlier version of the program
        has begun is finished as it would have been, without the columns added since. The records
        are on disk at the latest half a second and one commit later, or after `flush`.
        """
        if self.done[chunk]:
            return
        self.done[chunk] = True
        self._buffer[chunk] = as_version(table, self.manifest["schema_version"])
        self.num_finished += table.num_rows
        self.num_failed += count_failed(table)
        shard = self.layout.shard_of(chunk)
        if all(self.done[c] for c in self.layout.chunks_of(shard)):
            self.flush()
            self.write_shard(shard)
        elif time.monotonic() - self._last_flush_s >= FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Write what was committed and is not on disk yet, one part per shard."""
        by_shard: dict[int, list[int]] = {}
        for chunk in sorted(self._buffer):
            by_shard.setdefault(self.layout.shard_of(chunk), []).append(chunk)
        for shard, chunks in by_shard.items():
            table = pa.concat_tables(
                self._buffer[chunk].append_column(
                    _CHUNK,
                    pa.array(np.full(self._buffer[chunk].num_rows, chunk), pa.int64()),
                )
                for chunk in chunks
            )
            name = f"{chunks[0]:08d}-{uuid.uuid4().hex[:8]}.parquet"
            write_table(storage.join(progress_url(self.output, shard), name), table)
            for chunk in chunks:
                del self._buffer[chunk]
        self._last_flush_s = time.monotonic()

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Declare the data set complete; every chunk must have been committed."""
        assert self.done.all(), "finish() before the last chunk"
        shards = [
            manifest_entry(
                self.output, self.layout.shard_name(shard), self.layout.shard_rows(shard)
            )
            for shard in range(self.layout.num_shards)
        ]
        self.manifest = {**self.manifest, **provenance, "state": "finished", "shards": shards}
        write_manifest(self.output, self.manifest)
        remove_run_files(self.output)

    def write_shard(self, shard: int) -> None:
        """Put the parts of a shard together in the order of the images, then remove them."""
        url = progress_url(self.output, shard)
        parts: dict[int, pa.Table] = {}
        for name in storage.list_files(url, ".parquet"):
            table = read_table(storage.join(url, name))
            for chunk in pc.unique(table["chunk"]).to_pylist():
                rows = table.filter(pc.equal(table["chunk"], chunk))
                parts.setdefault(chunk, rows.drop_columns("chunk"))
        table = pa.concat_tables(parts[chunk] for chunk in self.layout.chunks_of(shard))
        expected = read_images(self.images_url, shard)["image_id"]
        if table["image_id"].combine_chunks() != expected.combine_chunks():
            raise AssertionError(f"shard {shard}: the records are not those of its images")
        write_table(
            storage.join(self.output, self.layout.shard_name(shard)),
            table.combine_chunks(),
            row_group_size=self.layout.rows_per_shard,
        )
        storage.remove_tree(url)


def count_failed(table: pa.Table) -> int:
    """The images of a table whose status is `failed`."""
    return pc.sum(pc.equal(table["status"], "failed")).as_py() or 0
