"""A small data set of PAD records on disk, whose every number a test can recompute."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.records import (
    SCHEMA_VERSION,
    PadRecord,
    RecordError,
    Region,
    Tag,
    as_version,
    records_to_table,
)

WIDTH, HEIGHT = 40, 30


def ellipse(cx: float, cy: float, rx: float, ry: float, width=WIDTH, height=HEIGHT) -> np.ndarray:
    """(height, width) bool mask of a filled ellipse."""
    y, x = np.mgrid[:height, :width]
    return ((x + 0.5 - cx) / rx) ** 2 + ((y + 0.5 - cy) / ry) ** 2 <= 1


def region(tag: str, mask: np.ndarray, score: float = 0.5, predicted_iou: float = 0.75) -> Region:
    """A region whose box is tight around `mask`."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    return Region(
        tag,
        score,
        (float(box[0]), float(box[1]), float(box[2]), float(box[3])),
        masks.encode(mask),
        int(mask.sum()),
        predicted_iou,
    )


def record(number: int, labels: Sequence[Region] = (), **changes: Any) -> PadRecord:
    """An image's record, "ok" or "empty" by its labels."""
    made = PadRecord(
        image_id=f"{number // 3:05d}/{number:08d}.png",
        uri=f"images/{number // 3:05d}/{number:08d}.png",
        width=WIDTH,
        height=HEIGHT,
        caption=f"picture number {number}",
        status="ok" if labels else "empty",
        error=None,
        tags=tuple(Tag(tag, 0.5) for tag in dict.fromkeys(label.tag for label in labels)),
        labels=tuple(labels),
    )
    return replace(made, **changes)


def failed(number: int) -> PadRecord:
    """The record of an image that could not be decoded."""
    error = RecordError("decode", "ImageError", "the file is empty (0 bytes)")
    return record(number, status="failed", error=error, width=0, height=0)


def example_records() -> list[PadRecord]:
    """Seven images: four with regions, two without, one failed."""
    apple, boat = ellipse(12, 10, 8, 7), ellipse(27, 20, 9, 6)
    return [
        record(0, [region("apple", apple, 0.9), region("sail boat", boat, 0.25, 0.5)]),
        record(1, tags=(Tag("cloud", 0.75),)),
        failed(2),
        record(3, [region("apple", boat, 0.5)], caption=None),
        record(4, [region("tree", apple, 0.7, 1.0), region("tree", boat, 0.6)]),
        record(5),
        record(6, [region("çay — bardağı", ellipse(20, 15, 3, 3), 1.0)]),
    ]


def write_dataset(
    folder: Path,
    records: Sequence[PadRecord],
    rows_per_shard: int = 3,
    schema_version: int = SCHEMA_VERSION,
    **manifest: Any,
) -> str:
    """Writes shards and manifest as `annotate` does; returns the data set's path."""
    folder.mkdir(parents=True, exist_ok=True)
    shards = []
    for number, start in enumerate(range(0, len(records), rows_per_shard)):
        rows = records[start : start + rows_per_shard]
        path = folder / f"pad-{number:05d}.parquet"
        pq.write_table(as_version(records_to_table(rows), schema_version), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        shards.append({"name": path.name, "rows": len(rows), "sha256": digest})
    stated = {
        "format": "pad",
        "schema_version": schema_version,
        "state": "finished",
        "num_images": len(records),
        "num_shards": len(shards),
        "shards": shards,
        **manifest,
    }
    (folder / "_manifest.json").write_text(json.dumps(stated))
    return str(folder)


def write_images(folder: Path, records: Sequence[PadRecord]) -> dict[str, bytes]:
    """A small PNG for every image that did not fail; returns the bytes by image id."""
    written = {}
    for number, one in enumerate(records):
        path = folder / one.image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        if one.status == "failed":
            path.write_bytes(b"")
            continue
        Image.new("RGB", (one.width, one.height), (200, 20 * number, 90)).save(path)
        written[one.image_id] = path.read_bytes()
    return written
