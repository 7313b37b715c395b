"""The images of records: their encoded bytes, where they were annotated or where they are now."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.records import PadRecord
from pad_pipeline.sources import ManifestRow, list_source, read_many
from pad_pipeline.sources.rows import location_error, split_uri

logger = logging.getLogger(__name__)

UNREADABLE = "image not readable"
"""The reason under which reports count records whose image is not where it should be."""
_READ_TOGETHER = 64


def iter_record_images(
    records: Iterable[PadRecord], images: str | None, counts: Counter[str]
) -> Iterator[tuple[PadRecord, bytes]]:
    """The records that did not fail, each with its image's encoded bytes, in their order.

    Counts "failed" records and those whose image is `UNREADABLE`, and leaves them out. Raises
    `UserError` at the end where images were looked for and not one could be read.
    """
    iterator = iter(records)
    num_read = 0
    while group := list(islice(iterator, _READ_TOGETHER)):
        there = [record for record in group if record.status != "failed"]
        if len(there) < len(group):
            counts["failed"] += len(group) - len(there)
        for record, data in zip(there, read_record_images(there, images), strict=True):
            if isinstance(data, Exception):
                counts[UNREADABLE] += 1
                logger.warning("left out %s: %s", record.image_id, data)
                continue
            num_read += 1
            yield record, data
    if counts[UNREADABLE] and not num_read:
        raise UserError(
            f"none of the {counts[UNREADABLE]:,} images could be read from "
            f"{images or 'where they were annotated'}; set ",
            Setting("images"),
            " to where they are now",
        )


def read_record_images(
    records: Sequence[PadRecord], images: str | None = None
) -> list[bytes | Exception]:
    """The encoded bytes of every record's image, in order; the exception where one is unreadable.

    They are read from the records' `uri`; with `images`, a folder, zip or tar, from the file named
    `image_id` there. Raises `UserError` where `images` itself is missing or unreadable.
    """
    rows = [find_record_image(record, images) for record in records]
    there = [row for row in rows if row is not None]
    read = iter(read_many(there))
    return [
        FileNotFoundError(f"{record.image_id} is not in {images or record.uri}")
        if row is None
        else next(read)
        for record, row in zip(records, rows, strict=True)
    ]


def find_record_image(record: PadRecord, images: str | None) -> ManifestRow | None:
    """Where the record's image lies, as `read_many` takes it; None where `images` lacks it."""
    if images is not None:
        if not _is_container(images):
            if ".." in record.image_id.split("/"):  # ids of a data set from elsewhere
                return None
            return ManifestRow(record.image_id, storage.join(images, record.image_id), None)
        return _listed(images)[1].get(record.image_id)
    row = ManifestRow(record.image_id, record.uri, None)
    chained = split_uri(record.uri)
    if chained is None or chained[0] not in ("zip", "tar") or location_error(chained[2]):
        return row
    # A record does not say at which byte its item is. Left to itself, `read_many` would read the
    # archive's whole directory again for each group of images.
    return _listed(chained[2])[0].get(record.uri, row)


@lru_cache(maxsize=64)
def _is_container(images: str) -> bool:
    return not storage.is_folder(images)


@lru_cache(maxsize=4)
def _listed(container: str) -> tuple[dict[str, ManifestRow], dict[str, ManifestRow]]:
    """The container's images by uri and by id."""
    rows = list(list_source(container))
    return {row.uri: row for row in rows}, {row.image_id: row for row in rows}
