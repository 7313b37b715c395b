"""The export to WebDataset: tar shards that hold each image's bytes beside its record."""

from __future__ import annotations

import io
import logging
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from pad_pipeline import storage
from pad_pipeline.dataset.reader import Dataset, iter_records
from pad_pipeline.dataset.record_images import UNREADABLE, iter_record_images
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.export.json_writing import json_bytes
from pad_pipeline.images import ImageError, ImageLimits, image_size
from pad_pipeline.images.formats import IMAGE_SUFFIXES, format_of
from pad_pipeline.records import PadRecord, to_pad_json
from pad_pipeline.storage.atomic import new_file, new_folder

logger = logging.getLogger(__name__)

SAMPLES_PER_SHARD = 1000
_NO_LIMITS = ImageLimits(max_pixels=sys.maxsize, max_bytes=sys.maxsize)


def write_webdataset(
    dataset: Dataset, dest: str, select: Selection, images: str | None = None
) -> Counter[str]:
    """A folder of `00000.tar`, …, a thousand samples each: `<number>.jpg` and `<number>.json`.

    The JSON has Table 9's keys and the rest of the record. Numbers are the images' positions among
    those written, so the same data set gives the same bytes. Raises `UserError` where no image at
    all can be read.
    """
    counts: Counter[str] = Counter()
    samples = _samples(dataset, select, images, counts)
    with new_folder(dest) as folder:
        shard = 0
        while group := next(samples, None):
            url = storage.join(folder, f"{shard:05d}.tar")
            with new_file(url) as file, tarfile.open(fileobj=file, mode="w") as tar:
                for number, (record, data) in enumerate(
                    _and_following(group, samples), start=shard * SAMPLES_PER_SHARD
                ):
                    _add(tar, f"{number:09d}{_suffix(record, data)}", data)
                    _add(tar, f"{number:09d}.json", json_bytes(_to_json(record)))
            shard += 1
    return counts


def _and_following(
    first: tuple[PadRecord, bytes], rest: Iterator[tuple[PadRecord, bytes]]
) -> Iterator[tuple[PadRecord, bytes]]:
    yield first
    yield from islice(rest, SAMPLES_PER_SHARD - 1)


def _samples(
    dataset: Dataset, select: Selection, images: str | None, counts: Counter[str]
) -> Iterator[tuple[PadRecord, bytes]]:
    for record, data in iter_record_images(iter_records(dataset, select), images, counts):
        try:
            image_size(data, _NO_LIMITS)
        except ImageError as error:
            # A data set from elsewhere may name any file of this machine as its image.
            counts[UNREADABLE] += 1
            logger.warning("left out %s: %s", record.image_id, error)
            continue
        counts["images"] += 1
        counts["regions"] += len(record.labels)
        yield record, data


def _to_json(record: PadRecord) -> dict[str, Any]:
    return {
        **to_pad_json(record),
        "captions": list(record.all_captions),
        "labels": [asdict(region) for region in record.labels],
        "tags": [asdict(tag) for tag in record.tags],
        "status": record.status,
        "uri": record.uri,
    }


def _suffix(record: PadRecord, data: bytes) -> str:
    suffix = PurePosixPath(record.image_id).suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return suffix
    form = format_of(data)
    return form.suffixes[0] if form else ".jpg"


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # A TarInfo of its own has no time, owner or mode that could differ from run to run.
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
