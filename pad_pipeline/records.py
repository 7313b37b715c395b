"""The PAD record, one per image: its types, its Arrow schema and its JSON form (paper, Table 9)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, TypeVar, cast

import numpy as np
import pyarrow as pa

Status = Literal["ok", "empty", "failed"]

_Item = TypeVar("_Item", "Tag", "Region")


@dataclass(frozen=True, slots=True)
class Tag:
    """A word that the tagger found in the image, with its probability (0–1)."""

    tag: str
    score: float


@dataclass(frozen=True, slots=True)
class Region:
    """One labelled region of an image.

    `bbox` is (x0, y0, x1, y1) in pixels of the original image as the detector gave it, so it may
    lie a fraction of a pixel outside. `rle_mask` is the COCO compressed RLE `counts` string,
    column-major, of a mask of the image's own (height, width). `area` counts mask pixels, `score`
    is the detector's (0–1), `predicted_iou` the segmenter's own estimate of its mask.
    """

    tag: str
    score: float
    bbox: tuple[float, float, float, float]
    rle_mask: str
    area: int
    predicted_iou: float


@dataclass(frozen=True, slots=True)
class RecordError:
    """Why an image failed: the stage, the exception's type and its message."""

    stage: str
    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PadRecord:
    """Everything known of one image.

    `width` and `height` are pixels after EXIF orientation, 0 where the image could not be decoded.
    `status` is "ok" (at least one region), "empty" (decoded, no region) or "failed" (`error` says
    why). `tags` holds all the tagger's tags, also those without a region.
    """

    image_id: str
    uri: str
    width: int
    height: int
    caption: str | None
    status: Status
    error: RecordError | None
    tags: tuple[Tag, ...]
    labels: tuple[Region, ...]


def _element(kind: pa.DataType) -> pa.Field:
    """A list's element under the name that Parquet gives it, so that a file reads back equal."""
    return pa.field("element", kind, nullable=False)


_TAG = pa.struct(
    [pa.field("tag", pa.string(), nullable=False), pa.field("score", pa.float32(), nullable=False)]
)
_REGION = pa.struct(
    [
        pa.field("tag", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("bbox", pa.list_(_element(pa.float32()), 4), nullable=False),
        pa.field("rle_mask", pa.string(), nullable=False),
        pa.field("area", pa.int64(), nullable=False),
        pa.field("predicted_iou", pa.float32(), nullable=False),
    ]
)
_ERROR = pa.struct([pa.field(name, pa.string()) for name in ("stage", "type", "message")])

PAD_SCHEMA = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", _ERROR),
        pa.field("tags", pa.list_(_element(_TAG)), nullable=False),
        pa.field("labels", pa.list_(_element(_REGION)), nullable=False),
    ],
    metadata={"pad_schema_version": "1"},
)
"""The columns of every shard, in order."""


def records_to_table(records: Sequence[PadRecord]) -> pa.Table:
    """The records as an Arrow table under `PAD_SCHEMA`, one row each, in their order."""
    # Column by column: a fraction of the time that a dict per row takes.
    columns: dict[str, pa.Array] = {}
    for column in PAD_SCHEMA:
        values = [getattr(record, column.name) for record in records]
        if column.name in ("tags", "labels"):
            offsets = np.cumsum([0, *map(len, values)], dtype=np.int32)
            structs = _structs([item for row in values for item in row], column.type.value_type)
            columns[column.name] = pa.ListArray.from_arrays(offsets, structs, type=column.type)
        elif column.name == "error":
            rows = [None if error is None else asdict(error) for error in values]
            columns[column.name] = pa.array(rows, column.type)
        else:
            columns[column.name] = pa.array(values, column.type)
    return pa.table(list(columns.values()), schema=PAD_SCHEMA)


def _structs(items: Sequence[Tag | Region], kind: pa.StructType) -> pa.StructArray:
    """The items as structs; each attribute is one of the struct's fields."""
    fields = list(kind)
    arrays = []
    for field in fields:
        values = [getattr(item, field.name) for item in items]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array([number for row in values for number in row], field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.StructArray.from_arrays(arrays, fields=fields)


def table_to_records(table: pa.Table) -> list[PadRecord]:
    """The inverse of `records_to_table`; raises `KeyError` where a column is missing."""
    return [record for batch in table.to_batches() for record in batch_to_records(batch)]


def batch_to_records(batch: pa.RecordBatch, *, masks: bool = True) -> list[PadRecord]:
    """The rows of one Arrow batch; raises `KeyError` where a column is missing.

    With `masks=False` the batch need not hold the masks and every `rle_mask` is the empty string.
    """
    # Column by column: three times as fast as one dict per row.
    plain = [
        batch.column(name).to_pylist()
        for name in ("image_id", "uri", "width", "height", "caption", "status", "error")
    ]
    tags = _lists(batch.column("tags"), Tag, ("tag", "score"))
    region = ("tag", "score", "bbox", "rle_mask" if masks else None, "area", "predicted_iou")
    labels = _lists(batch.column("labels"), Region, region)
    return [
        PadRecord(
            image_id=image_id,
            uri=uri,
            width=width,
            height=height,
            caption=caption,
            status=cast(Status, status),
            error=RecordError(**error) if error else None,
            tags=tags_of_row,
            labels=labels_of_row,
        )
        for image_id, uri, width, height, caption, status, error, tags_of_row, labels_of_row in zip(
            *plain, tags, labels, strict=True
        )
    ]


def _lists(
    column: pa.ListArray, make: Callable[..., _Item], fields: Sequence[str | None]
) -> list[tuple[_Item, ...]]:
    """Row by row the column's structs, each `make(*fields)`; the empty string for a None field."""
    offsets = column.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    structs = column.values.slice(first, last - first)
    columns = [[""] * len(structs) if name is None else _values(structs, name) for name in fields]
    items = list(map(make, *columns))
    return [tuple(items[start - first : end - first]) for start, end in pairwise(offsets)]


def _values(structs: pa.StructArray, name: str) -> list[Any]:
    values = structs.field(name)
    if isinstance(values, pa.FixedSizeListArray):
        rows = values.flatten().to_numpy().reshape(len(values), values.type.list_size)
        return [tuple(row) for row in rows.tolist()]
    return values.to_pylist()


def to_pad_json(record: PadRecord) -> dict[str, Any]:
    """The record with exactly the keys of Table 9; `size` is [width, height]."""
    return {
        "image_id": record.image_id,
        "size": [record.width, record.height],
        "caption": record.caption or "",
        "labels": [
            {"tag": region.tag, "bbox": list(region.bbox), "rle_mask": region.rle_mask}
            for region in record.labels
        ],
    }
