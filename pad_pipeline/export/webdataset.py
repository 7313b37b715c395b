"""The export to WebDataset: tar shards that hold each image's bytes beside its record."""

from __future__ import annotations

import io
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

from pad_pipeline import storage
from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.image_files import EntryImage, iter_images, suffix_of
from pad_pipeline.export.json_writing import json_bytes
from pad_pipeline.record_json import to_dict, to_pad_json
from pad_pipeline.records import PadRecord
from pad_pipeline.storage.atomic import new_file, new_folder

SAMPLES_PER_SHARD = 1000


def write_webdataset(chosen: Chosen, dest: str) -> Counter[str]:
    """A folder of `00000.tar`, …, a thousand samples each: `<key>.jpg` and `<key>.json`.

    A key is the image's place in the data set and its id, `000000012-sub-bus`, so it is the same in
    every selection. The JSON has Table 9's keys and the rest of the record. With a split, a folder
    for each part. Raises `UserError` where no image at all can be read.
    """
    counts: Counter[str] = Counter()
    samples = iter_images(chosen, counts)
    with new_folder(dest) as folder:
        shard = 0
        while group := next(samples, None):
            url = storage.join(folder, f"{shard:05d}.tar")
            with new_file(url) as file, tarfile.open(fileobj=file, mode="w") as tar:
                for image in _and_following(group, samples):
                    record, key = image.entry.record, _key(image)
                    _add(tar, key + suffix_of(record, image.data), image.data)
                    _add(tar, f"{key}.json", json_bytes(_to_json(record)))
            shard += 1
    return counts


def _and_following(first: EntryImage, rest: Iterator[EntryImage]) -> Iterator[EntryImage]:
    yield first
    yield from islice(rest, SAMPLES_PER_SHARD - 1)


def _key(image: EntryImage) -> str:
    stem = image.entry.record.image_id.rpartition(".")[0] or image.entry.record.image_id
    words = re.sub(r"[^\w]+", "-", stem, flags=re.ASCII).strip("-")  # a dot would end the key
    return f"{image.entry.number - 1:09d}-{words[-80:]}"


def _to_json(record: PadRecord) -> dict[str, Any]:
    whole = to_dict(record)
    return {
        **to_pad_json(record),
        "captions": list(record.all_captions),
        "labels": whole["labels"],
        "tags": whole["tags"],
        "status": record.status,
        "uri": record.uri,
    }


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    # A TarInfo of its own has no time, owner or mode that could differ from run to run.
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))
