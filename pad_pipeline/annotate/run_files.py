"""The files of a run: how images are cut into shards and chunks, and how each file is written."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq

from pad_pipeline import storage
from pad_pipeline.dataset.writer import shard_name
from pad_pipeline.sources import MANIFEST_SCHEMA, ManifestRow, rows_to_table
from pad_pipeline.storage.parquet import ParquetFile

RUN = "_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How the images of a run are cut: `num_images` in shards in chunks."""

    num_images: int
    rows_per_shard: int
    chunk_size: int

    @property
    def num_shards(self) -> int:
        """Number of shards."""
        return -(-self.num_images // self.rows_per_shard)

    @property
    def chunks_per_shard(self) -> int:
        """Number of chunks of a full shard."""
        return self.rows_per_shard // self.chunk_size

    def chunks_of(self, shard: int) -> range:
        """The chunks of a shard, numbered through the whole run."""
        last = -(-self.num_images // self.chunk_size)
        first = shard * self.chunks_per_shard
        return range(first, min(first + self.chunks_per_shard, last))

    def shard_of(self, chunk: int) -> int:
        """The shard that a chunk belongs to."""
        return chunk // self.chunks_per_shard

    def shard_name(self, shard: int) -> str:
        """The file name of a shard; names sort in the order of the images."""
        return shard_name(shard, self.num_shards)

    def shard_rows(self, shard: int) -> int:
        """Number of images in a shard."""
        start = shard * self.rows_per_shard
        return min(self.rows_per_shard, self.num_images - start)


def images_url(output: str) -> str:
    """Where the list of the images of a run lies."""
    return storage.join(output, RUN, "images.parquet")


def progress_url(output: str, shard: int) -> str:
    """The folder of the parts of an open shard."""
    return storage.join(output, RUN, "progress", f"{shard:05d}")


def write_images(url: str, rows: Iterable[ManifestRow], rows_per_shard: int) -> tuple[int, str]:
    """Write the list of the images, a row group per shard; returns its length and checksum."""
    running = hashlib.sha256()
    count = 0
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, MANIFEST_SCHEMA, compression="zstd") as writer:
        for batch in _batches(rows, rows_per_shard):
            _update(running, batch)
            count += len(batch)
            writer.write_table(rows_to_table(batch), row_group_size=rows_per_shard)
    storage.write_atomic(url, sink.getvalue())
    return count, running.hexdigest()


def digest_images(rows: Iterable[ManifestRow]) -> tuple[int, str]:
    """Length and checksum of the list that `write_images` would write."""
    running = hashlib.sha256()
    count = 0
    for batch in _batches(rows, 4096):
        _update(running, batch)
        count += len(batch)
    return count, running.hexdigest()


def _update(running: hashlib._Hash, batch: list[ManifestRow]) -> None:
    for row in batch:
        text = json.dumps([row.image_id, row.uri, row.caption, row.offset, row.size])
        running.update(text.encode() + b"\n")


def _batches(rows: Iterable[ManifestRow], size: int) -> Iterator[list[ManifestRow]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def read_images(images_url: str, shard: int) -> pa.Table:
    """The images of a shard (`MANIFEST_SCHEMA`)."""
    with storage.open_read(images_url) as file:
        return ParquetFile(file).read_row_group(shard)
