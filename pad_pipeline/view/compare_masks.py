"""The IoUs of masks of two data sets, for regions of one tag whose boxes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from pad_pipeline import masks, storage
from pad_pipeline.storage.parquet import ParquetFile

_BATCH_ROWS = 2048
_IMAGES_TOGETHER = 4096

_MASKS = """
CREATE OR REPLACE TEMP TABLE masks_{name} (position INTEGER, number INTEGER, mask VARCHAR);
"""
_OVERLAPS = """
CREATE OR REPLACE TEMP TABLE mask_overlaps (here INTEGER, one INTEGER, two INTEGER, iou FLOAT);
"""
_CANDIDATES = """
SELECT o.here, one, two, p.mask AS first, q.mask AS second, h.width, h.height
FROM box_overlaps o
JOIN pairs USING (here)
JOIN a.images h ON h.position = o.here
JOIN b.images t ON t.position = there AND t.width = h.width AND t.height = h.height
JOIN masks_a p ON p.position = o.here AND p.number = one
JOIN masks_b q ON q.position = there AND q.number = two
WHERE o.here >= ? AND o.here < ?
"""


def add_mask_overlaps(con: duckdb.DuckDBPyConnection, here: str, there: str) -> int:
    """Makes the table mask_overlaps (here, one, two, iou) beside `box_overlaps`.

    Reads both data sets; equal masks are not decoded. Returns how many pairs have a mask that
    cannot be read: these overlap with nothing, as do masks of images of different sizes.
    """
    for name, folder in (("a", here), ("b", there)):
        _load_masks(con, name, folder)
    con.execute(_OVERLAPS)
    num_unreadable = 0
    [(end,)] = con.execute("SELECT coalesce(max(here) + 1, 0) FROM box_overlaps").fetchall()
    for start in range(0, end, _IMAGES_TOGETHER):
        rows = con.execute(_CANDIDATES, [start, start + _IMAGES_TOGETHER]).fetchall()
        if not rows:
            continue
        place_one_two, first, second, width, height = zip(
            *((row[:3], *row[3:]) for row in rows), strict=True
        )
        iou_N, is_read_N = _ious(first, second, np.array(width), np.array(height))
        num_unreadable += int((~is_read_N).sum())
        columns = dict(zip(("here", "one", "two"), np.array(place_one_two).T, strict=True))
        con.register("found", pa.table({**columns, "iou": iou_N}))
        con.execute("INSERT INTO mask_overlaps FROM found")
        con.unregister("found")
    con.execute("DROP TABLE masks_a; DROP TABLE masks_b")
    return num_unreadable


def _load_masks(con: duckdb.DuckDBPyConnection, name: str, folder: str) -> None:
    con.execute(_MASKS.format(name=name))
    shards = con.execute(
        f"SELECT s.name, min(i.position) FROM {name}.shards s JOIN {name}.images i USING (shard) "
        "GROUP BY ALL ORDER BY 2"
    ).fetchall()
    for shard, first in shards:
        with storage.open_read(storage.join(folder, shard)) as source:
            columns = ["labels.list.element.rle_mask"]
            for batch in ParquetFile(source).iter_batches(_BATCH_ROWS, columns):
                labels = batch.column("labels")
                counts = np.diff(labels.offsets.to_numpy())
                starts = np.repeat(np.cumsum(counts) - counts, counts)
                parents = np.repeat(np.arange(first, first + len(counts)), counts)
                found: dict[str, Any] = {
                    "position": parents.astype(np.int32),
                    "number": (np.arange(len(parents)) - starts).astype(np.int32),
                    "mask": labels.flatten().field("rle_mask"),
                }
                con.register("found", pa.table(found))
                con.execute(f"INSERT INTO masks_{name} FROM found")
                con.unregister("found")
                first += batch.num_rows


def _ious(
    first: Sequence[str],
    second: Sequence[str],
    width_N: NDArray[np.int64],
    height_N: NDArray[np.int64],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N,) the IoU of each pair of masks, 0 where one cannot be read, and which can be."""
    is_read_N = _are_sound(first, height_N * width_N) & _are_sound(second, height_N * width_N)
    iou_N = np.zeros(len(first), np.float32)
    for place in np.flatnonzero(is_read_N).tolist():
        if first[place] == second[place]:
            iou_N[place] = 1
            continue
        size = [int(height_N[place]), int(width_N[place])]
        pair: list[Any] = [{"size": size, "counts": c} for c in (first[place], second[place])]
        iou_N[place] = np.asarray(coco_mask.iou(pair[:1], pair[1:], [0]))[0, 0]
    return iou_N, is_read_N


def _are_sound(counts: Sequence[str], pixels_N: NDArray[np.int64]) -> NDArray[np.bool_]:
    """(N,) whether each mask is well formed and covers its image: pycocotools does not look."""
    encoded = [each.encode() for each in counts]
    offsets = np.cumsum([0, *map(len, encoded)])
    parsed = masks.parse_runs(np.frombuffer(b"".join(encoded), np.uint8), offsets)
    sums = np.concatenate([[0], np.cumsum(parsed.pairs.sum(axis=1))])
    covered_N = sums[parsed.offsets[1:]] - sums[parsed.offsets[:-1]]
    return (parsed.faults == 0) & (covered_N == pixels_N)
