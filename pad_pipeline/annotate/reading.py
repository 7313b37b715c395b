"""Rows of a source to samples that hold their encoded bytes."""

from __future__ import annotations

from collections.abc import Sequence

from pad_pipeline import storage
from pad_pipeline.annotate.guard import describe
from pad_pipeline.annotate.sample import Sample
from pad_pipeline.errors import UserError
from pad_pipeline.sources import ManifestRow, read_many


def read_samples(rows: Sequence[ManifestRow]) -> list[Sample]:
    """A sample per row, in order; one whose image cannot be read has an error.

    Raises `UserError` where a store has not answered for as long as its retries last.
    """
    samples = []
    for row, data in zip(rows, read_many(rows), strict=True):
        sample = Sample(image_id=row.image_id, uri=row.uri, caption=row.caption)
        if isinstance(data, storage.GaveUp):
            # an outage, and no fault of the image: the run ends and can go on later
            raise UserError(f"cannot read {row.uri}: {data}")
        if isinstance(data, Exception):
            sample.error = describe("read", data)
        else:
            sample.data = data
        samples.append(sample)
    return samples
