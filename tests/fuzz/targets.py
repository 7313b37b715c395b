"""What is fuzzed: for every kind of input its valid files, its changes, the code that reads it."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pyarrow as pa

from pad_pipeline import masks
from pad_pipeline.dataset.reader import find_record, iter_records, open_dataset
from pad_pipeline.dataset.render import picture_name
from pad_pipeline.dataset.stats import compute_stats
from pad_pipeline.dataset.validate import validate
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageError, ImageLimits, decode_image, image_size
from pad_pipeline.records import PadRecord, records_to_table
from pad_pipeline.sources import ManifestRow, list_source, read_many, rows_to_table
from pad_pipeline.sources.captions import read_captions
from tests.dataset.example import example_records
from tests.fuzz import mutations, seeds
from tests.fuzz.mutations import Mutate, mutate

ITEM_ERRORS = (UserError, OSError, ValueError, pa.ArrowException)
"""What may stand in the place of an item that cannot be read."""
LIMITS = ImageLimits(max_pixels=4_000_000)
MOST_ROWS = 100_000


@dataclass(frozen=True)
class Target:
    """`make` gives an input's bytes, `read` reads it: True where it was accepted, False where it
    was refused in a documented way. Anything else that `read` raises is a finding."""

    make: Callable[[Random], bytes]
    read: Callable[[bytes, Path], bool]


def _mutated(files: Callable[[], list[bytes]], *own: Mutate) -> Callable[[Random], bytes]:
    return lambda rng: mutate(rng, rng.choice(files()), own)


def _source(name: str) -> Callable[[bytes, Path], bool]:
    def read(data: bytes, folder: Path) -> bool:
        path = folder / name
        path.write_bytes(data)
        for other, content in seeds.FILES.items():
            place = folder / other
            if not place.exists():
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(content)
        return read_source(str(path))

    return read


def read_source(source: str) -> bool:
    """Lists and reads a source as an annotation does; damage of its images is ignored."""
    rows: list[ManifestRow] = []
    try:
        for row in list_source(source):
            rows.append(row)
            assert len(rows) <= MOST_ROWS, "far more rows than the file can hold"
    except UserError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message, f"a message of several lines: {message!r}"
    if message:
        return False
    rows_to_table(rows).validate(full=True)
    alone = [ManifestRow(row.image_id, row.uri, None) for row in rows]
    for item in [*read_many(rows), *read_many(alone)]:
        assert isinstance(item, (bytes, *ITEM_ERRORS)), repr(item)
    return True


def _captions(data: bytes, folder: Path) -> bool:
    path = folder / "captions.json"
    path.write_bytes(data)
    try:
        captions = read_captions(str(path))
    except UserError:
        return False
    assert all(isinstance(x, str) for key, found in captions.items() for x in (key, *found))
    return True


def _image(data: bytes, folder: Path) -> bool:
    del folder
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            width, height = image_size(data, LIMITS)
            decoded = decode_image(data, LIMITS)
        except ImageError:
            return False
    assert decoded.dtype == np.uint8
    assert decoded.shape == (height, width, 3)
    return True


def _shard(data: bytes, folder: Path) -> bool:
    (folder / "pad-00000.parquet").write_bytes(data)
    return read_dataset(str(folder))


def read_dataset(url: str) -> bool:
    """Opens, reads, measures and validates a data set of PAD records."""
    accepted = True
    for read in (
        lambda: [check_record(record) for record in iter_records(open_dataset(url))],
        lambda: list(iter_records(open_dataset(url), masks=False)),
        lambda: find_record(url, "00000/00000001.png"),
        lambda: compute_stats(url),
        lambda: validate(url),
    ):
        try:
            read()
        except UserError:
            accepted = False
    return accepted


def check_record(record: PadRecord) -> None:
    """What a reader of a record does with its untrusted parts."""
    name = picture_name(record.image_id)
    assert not Path(name).is_absolute()
    assert ".." not in Path(name).parts
    for region in record.labels:
        _mask(region.rle_mask, record.height, record.width)


def _manifest(data: bytes, folder: Path) -> bool:
    (folder / "pad-00000.parquet").write_bytes(seeds.shards()[0])
    (folder / "_manifest.json").write_bytes(data)
    return read_dataset(str(folder))


def _manifests() -> list[bytes]:
    shard = {"name": "pad-00000.parquet", "rows": 7, "sha256": "0" * 64}
    manifest: dict[str, Any] = {"format": "pad", "schema_version": 1, "state": "finished"}
    manifest |= {"num_images": 7, "num_shards": 1, "shards": [shard]}
    return [json.dumps(manifest, indent=1).encode()]


def _mask(counts: str, height: int, width: int) -> bool:
    try:
        decoded = masks.decode(counts, height, width)
    except ValueError:
        return False
    assert decoded.shape == (height, width)
    assert masks.area(counts, height, width) == int(decoded.sum())
    masks.bounding_box(counts, height, width)
    return True


def _masks(data: bytes, folder: Path) -> bool:
    del folder
    height, width = 1 + data[0] % 64, 1 + data[1] % 64
    return _mask(data[2:].decode("latin-1"), height, width)


def _mask_bytes(rng: Random) -> bytes:
    labels = [region for record in example_records() for region in record.labels]
    counts = bytearray(rng.choice(labels).rle_mask.encode())
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(counts) + 1)
        count = rng.choice((1, 1, 6, 7, 8, 500))
        counts[at : at + rng.randrange(3)] = bytes(rng.choices(range(48, 112), k=count))
    if rng.random() < 0.1:
        counts = bytearray(mutate(rng, bytes(counts)))
    return bytes([29, 39]) + bytes(counts)


def _odd_shard(rng: Random) -> bytes:
    """A sound Parquet file with unsound records in it."""
    records = example_records()
    for _ in range(rng.choice((1, 2, 5))):
        at = rng.randrange(len(records))
        records[at] = replace(records[at], **_odd_fields(rng, records[at]))
    return seeds._parquet(records_to_table(records), "none")


def _odd_fields(rng: Random, record: PadRecord) -> dict[str, Any]:
    side = rng.choice((0, -1, 1, 1 << 31 - 1, -(1 << 31), 3000))
    name = rng.choice([n for n in mutations._NAMES if n.isprintable() or "\n" in n or "\0" in n])
    fields: list[dict[str, Any]] = [
        {"width": side},
        {"height": side},
        {"width": 0, "height": 0},
        {"image_id": name},
        {"uri": name},
        {"status": rng.choice(("", "OK", "failed", "ok", "empty", "\0"))},
    ]
    if record.labels:
        odd = (float("nan"), float("inf"), -1e38, 0.0)
        box = tuple(rng.choice(odd) for _ in range(4))
        counts = _mask_bytes(rng)[2:].decode("latin-1")
        for changes in (
            {"bbox": box},
            {"rle_mask": counts},
            {"score": rng.choice(odd)},
            {"area": rng.choice((-1, 0, (1 << 63) - 1))},
            {"predicted_iou": rng.choice(odd)},
        ):
            fields.append({"labels": (replace(record.labels[0], **changes), *record.labels[1:])})
    return rng.choice(fields)


def _shards(rng: Random) -> bytes:
    return _odd_shard(rng) if rng.random() < 0.4 else mutate(rng, rng.choice(seeds.shards()))


def _checkpoint(data: bytes, folder: Path) -> bool:
    from pad_pipeline.models.checkpoints import read_checkpoint

    name = "x.safetensors" if data[8:9] == b"{" else "x.pth"
    (folder / name).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read_checkpoint(folder / name)
        except UserError:
            return False
    return True


def _names(rng: Random) -> bytes:
    """Names of files in a folder, one after each NUL, in any bytes."""
    alphabet = [
        b"a",
        b"\xc3\xa4",
        b"\n",
        b"\xff",
        b" ",
        b"\\",
        b"'",
        b"::",
        b"%",
        b"*",
        b"{1..3}",
        b"~",
    ]
    names = [
        b"".join(rng.choices(alphabet, k=rng.choice((1, 3, 60))))
        + rng.choice((b".png", b".PNG", b""))
        for _ in range(rng.randrange(1, 6))
    ]
    return b"\0".join(names)


def _folder(data: bytes, folder: Path) -> bool:
    import os

    for number, name in enumerate(data.split(b"\0")):
        place = os.path.join(os.fsencode(folder), b"d%d" % (number % 2))
        os.makedirs(place, exist_ok=True)
        with open(os.path.join(place, name[:250]), "wb") as file:
            file.write(seeds.image(number))
    return read_source(str(folder))


def _pictures(form: str, *own: Mutate) -> Target:
    return Target(_mutated(lambda: seeds.pictures(form), *own), _image)


TARGETS: dict[str, Target] = {
    "folder": Target(_names, _folder),
    "zip": Target(_mutated(seeds.zips, mutations.zip_field), _source("x.zip")),
    "tar": Target(_mutated(seeds.tars, mutations.tar_field, mutations.pax_field), _source("x.tar")),
    "json": Target(
        _mutated(seeds.json_lists, mutations.json_field, mutations.json_text), _source("x.json")
    ),
    "jsonl": Target(
        _mutated(seeds.json_lines, mutations.json_field, mutations.json_text), _source("x.jsonl")
    ),
    "captions": Target(
        _mutated(seeds.caption_files, mutations.json_field, mutations.json_text), _captions
    ),
    "parquet": Target(_mutated(seeds.parquets), _source("x.parquet")),
    **{form: _pictures(form) for form in seeds.PICTURE_KINDS},
    "jxl": _pictures("jxl", mutations.jxl_header),
    "png": _pictures("png", mutations.png_chunk),
    "records": Target(_shards, _shard),
    "manifest": Target(_mutated(_manifests, mutations.json_field, mutations.json_text), _manifest),
    "masks": Target(_mask_bytes, _masks),
    "weights": Target(_mutated(seeds.checkpoints), _checkpoint),
}
"""By kind: sources, then the images' formats, then what belongs to data sets and models."""

KINDS: Sequence[str] = tuple(TARGETS)
