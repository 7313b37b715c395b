"""Samples of a source: its rows with their images' encoded bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.annotate.run_files import read_images
from pad_pipeline.engine.guard import describe
from pad_pipeline.engine.messages import ChunkMessage, to_block
from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow, read_many, table_to_rows


def read_samples(rows: Sequence[ManifestRow]) -> list[Sample]:
    """A sample per row, in order; one whose image cannot be read has an error.

    Raises `UserError` where a store has not answered for as long as its retries last.
    """
    samples = []
    for row, data in zip(rows, read_many(rows), strict=True):
        sample = Sample(
            image_id=row.image_id,
            uri=row.uri,
            caption=row.caption,
            captions=row.captions,
            column_tags=row.tags or (),
            regions=row.regions,
        )
        if isinstance(data, storage.RetriesExhausted):
            # an outage, and no fault of the image: the run ends and can be continued later
            raise UserError(f"cannot read {row.uri}: {data}")
        if isinstance(data, Exception):
            sample.error = describe("read", data)
        else:
            sample.data = data
        samples.append(sample)
    return samples


def read_chunks(
    batch: pa.Table,
    *,
    images_url: str,
    rows_per_shard: int,
    chunk_size: int,
    prepare: Callable[[], object] = lambda: None,
) -> Iterator[pa.Table]:
    """The encoded images of the given chunks, a row per chunk; a task of the run's first operator.

    `prepare` is called before, in the process that reads.
    An image that cannot be read becomes a sample with an error. Raises `UserError` where a store
    has not answered for as long as its retries last.
    """
    prepare()
    for task in batch.to_pylist():
        images = read_images(images_url, task["shard"])
        for chunk in task["chunks"]:
            start = chunk * chunk_size - task["shard"] * rows_per_shard
            rows = table_to_rows(images.slice(start, chunk_size))
            yield to_block(ChunkMessage(chunk, read_samples(rows)))
