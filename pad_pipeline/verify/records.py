"""The comparison of `verify` for records: images through the whole chain of the embedded models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import masks
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.config import AnnotateConfig, demo
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.models.base import Runtime
from pad_pipeline.records import PadRecord
from pad_pipeline.verify.rows import (
    VerifyRow,
    compare,
    compare_decisions,
    compare_packed_masks,
    read_json,
)

SHIPPED = Path(__file__).with_name("recorded")
"""Records of two drawn scenes; `python -m tools.record_scenes` writes them."""

RECORDS_FILE = "records.json"


def check_records(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Tags, boxes and masks of the folder's images, against the records in its `RECORDS_FILE`."""
    recorded: Sequence[Mapping[str, Any]] = read_json(directory / RECORDS_FILE)
    names = [entry["image_id"] for entry in recorded]
    rows = []
    for record, wanted in zip(annotate(directory, names, runtime), recorded, strict=True):
        rows += _compare(record, wanted, tolerance)
    return rows


def annotate(directory: Path, names: Sequence[str], runtime: Runtime) -> list[PadRecord]:
    """The records of a folder's images, by the embedded models in one batch."""
    chain = build_chain(_config(runtime), {})
    samples = [
        Sample(image_id=name, uri=name, data=(directory / name).read_bytes()) for name in names
    ]
    return [to_record(sample) for sample in chain(samples)]


def _config(runtime: Runtime) -> AnnotateConfig:
    return replace(demo(), device=runtime.device, dtype=runtime.dtype, compile=runtime.compile)


def _compare(record: PadRecord, wanted: Mapping[str, Any], tolerance: float) -> list[VerifyRow]:
    tags, labels = wanted["tags"], wanted["labels"]
    image, side = record.image_id, float(max(record.width, record.height))
    tag_names = [t.tag for t in record.tags], [t["tag"] for t in tags]
    label_names = [r.tag for r in record.labels], [r["tag"] for r in labels]
    rows = [
        compare_decisions(f"{image} tags", *tag_names),
        compare_decisions(f"{image} labels", *label_names),
    ]
    if not all(row.ok for row in rows):
        return rows  # what follows would compare one thing's numbers with another's
    tag_scores = [t.score for t in record.tags], [t["score"] for t in tags]
    scores = [r.score for r in record.labels], [r["score"] for r in labels]
    boxes = [r.bbox for r in record.labels], [r["bbox"] for r in labels]
    qualities = [r.predicted_iou for r in record.labels], [r["predicted_iou"] for r in labels]
    size = record.height, record.width
    packed = (
        _packed([r.rle_mask for r in record.labels], size),
        _packed([r["rle_mask"] for r in labels], size),
    )
    return [
        *rows,
        compare(f"{image} tag scores", *tag_scores, tolerance),
        compare(f"{image} scores", *scores, tolerance),
        compare(f"{image} boxes", *boxes, tolerance * side, "pixels; tolerance × longest side"),
        compare_packed_masks(f"{image} masks", *packed, [size] * len(labels)),
        compare(f"{image} predicted IoU", *qualities, tolerance),
    ]


def _packed(counts: Sequence[str], size_hw: tuple[int, int]) -> NDArray[np.uint8]:
    """Masks as rows of `numpy.packbits`, from their RLE."""
    return np.array([np.packbits(masks.decode(text, *size_hw)) for text in counts], np.uint8)
