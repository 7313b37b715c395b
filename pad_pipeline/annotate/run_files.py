"""The files that a run keeps under OUTPUT/_run until it has finished, above all the list of images.

OUTPUT/_run/images.parquet   the images in order, one row group per shard
OUTPUT/_run/progress/<k>/    parts of shard k, see `ledger`
OUTPUT/_run/status.json      how the run stands, see `heartbeat`
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pad_pipeline import storage
from pad_pipeline.dataset.manifest import RUN
from pad_pipeline.sources import MANIFEST_SCHEMA, ManifestRow, rows_to_table
from pad_pipeline.storage.atomic import remove_temporary_files
from pad_pipeline.storage.parquet import ParquetFile


def images_url(output: str) -> str:
    """Where the list of the images of a run lies."""
    return storage.join(output, RUN, "images.parquet")


def progress_url(output: str, shard: int) -> str:
    """The folder of the parts of an open shard."""
    return storage.join(output, RUN, "progress", f"{shard:05d}")


def status_url(output: str) -> str:
    """Where a running command describes itself."""
    return storage.join(output, RUN, "status.json")


@dataclass(frozen=True, slots=True)
class ImageList:
    """The images of a source in their order: their number, checksums, and the file of the list.

    `content_digest` is that of ids, captions and sizes, `given_digest` that of further captions and
    of tags and regions that are given with the images, `places_digest` that of the places where the
    bytes lie, which may change between two commands.
    """

    num_images: int
    content_digest: str
    given_digest: str
    places_digest: str
    data: bytes

    def read(self) -> pa.Table:
        """The list (`MANIFEST_SCHEMA`)."""
        return ParquetFile(pa.BufferReader(self.data)).read()


def list_images(rows: Iterable[ManifestRow], rows_per_shard: int) -> ImageList:
    """The list of the images as a Parquet file with a row group per shard."""
    content, given, places = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    count = 0
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, MANIFEST_SCHEMA, compression="zstd") as writer:
        for batch in _batches(rows, rows_per_shard):
            for row in batch:
                _update(content, row.image_id, row.caption, row.size)
                if row.captions or row.tags is not None or row.regions is not None:
                    regions = [astuple(one) for one in row.regions or ()]
                    _update(given, row.image_id, row.captions, row.tags, regions)
                _update(places, row.image_id, row.uri, row.caption, row.offset, row.size)
            count += len(batch)
            writer.write_table(rows_to_table(batch), row_group_size=rows_per_shard)
    digests = (content.hexdigest(), given.hexdigest(), places.hexdigest())
    return ImageList(count, *digests, sink.getvalue())


def _update(running: hashlib._Hash, *values: Any) -> None:
    running.update(json.dumps(values).encode() + b"\n")


def _batches(rows: Iterable[ManifestRow], size: int) -> Iterator[list[ManifestRow]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, size)):
        yield batch


def read_images(images_url: str, shard: int) -> pa.Table:
    """The images of a shard (`MANIFEST_SCHEMA`)."""
    with storage.open_read(images_url) as file:
        return ParquetFile(file).read_row_group(shard)


def remove_run_files(output: str) -> None:
    """Remove what only an unfinished run needs, and temporary files that killed runs have left.

    Only for the holder of the data set's lock: another run's temporary files would go too.
    """
    storage.remove_tree(storage.join(output, RUN))
    folder = storage.local_path(output)
    if folder is not None:
        remove_temporary_files(folder, older_than_s=0)
