"""The PAD record, one per image: its types, its Arrow schema and its JSON form (paper, Table 9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Literal, TypeVar, cast

import numpy as np
import pyarrow as pa

from pad_pipeline.record_pictures import ShowsMask, ShowsPicture

Status = Literal["ok", "empty", "failed"]

_Item = TypeVar("_Item", "Tag", "Region")
_ITEMS = ("tags", "labels")


TagOrigin = Literal["model", "classes", "captions", "column", "boxes"]
"""Who says that a tag applies: the tagger, a list for all images, the image's captions, a column of
the source, the labels of given boxes."""

RegionOrigin = Literal["model", "boxes", "masks"]
"""What of a region was given: nothing, the box with its label, or the mask as well."""


@dataclass(frozen=True, slots=True)
class Tag:
    """A word or phrase that applies to the image.

    `score` is the tagger's probability (0–1), 1 for a tag that it did not find. A phrase of a
    caption has its place there: characters `caption_start` to `caption_end` (exclusive, counted in
    code points) of the caption number `caption_index` (0 is `PadRecord.caption`). `presence` is
    what SAM 3 says: the probability (0–1) that there is such a thing in the image at all; None
    where it was not asked.
    """

    tag: str
    score: float
    origin: TagOrigin = "model"
    caption_index: int | None = None
    caption_start: int | None = None
    caption_end: int | None = None
    presence: float | None = None


@dataclass(frozen=True, slots=True)
class Region(ShowsMask):
    """One labelled region of an image.

    `bbox` is (x0, y0, x1, y1) in pixels of the original image as the detector gave it, so it may
    lie a fraction of a pixel outside. `rle_mask` is the COCO compressed RLE `counts` string,
    column-major, of a mask of the image's own (height, width). `area` counts mask pixels, `score`
    is the detector's (0–1), `predicted_iou` the segmenter's own estimate of its mask; both are 1
    where box or mask were given without, and `predicted_iou` of masks by SAM 3, which estimates
    none. `stability` is how little the mask changes with its
    threshold (0–1), None where the run did not ask for it. `size` is that image's (height, width)
    where the region was read or found with it, so that it can show its `mask`; it is not stored.
    """

    tag: str
    score: float
    bbox: tuple[float, float, float, float]
    rle_mask: str
    area: int
    predicted_iou: float
    origin: RegionOrigin = "model"
    stability: float | None = None
    size: tuple[int, int] | None = dataclasses.field(default=None, compare=False, repr=False)


def tags_of_boxes(labels: Iterable[tuple[str, float]]) -> tuple[Tag, ...]:
    """The tags of an image whose regions were given, from (tag, score) of each: the best score."""
    best: dict[str, float] = {}
    for tag, score in labels:
        best[tag] = max(score, best.get(tag, 0.0))
    return tuple(Tag(tag, score, "boxes") for tag, score in best.items())


@dataclass(frozen=True, slots=True)
class RecordError:
    """Why an image failed: the stage, the exception's type and its message."""

    stage: str
    type: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PadRecord(ShowsPicture):
    """Everything known of one image.

    `width` and `height` are pixels after EXIF orientation, 0 where the image could not be decoded.
    `status` is "ok" (at least one region), "empty" (decoded, no region) or "failed" (`error` says
    why). `tags` holds all tags, also those without a region; one that is known from several origins
    or phrases stands there once for each. `captions` are all captions of an image that has several,
    `caption` first; None where it has one or none.
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
    captions: tuple[str, ...] | None = None

    @property
    def all_captions(self) -> tuple[str, ...]:
        """Every caption of the image, `caption` first."""
        if self.captions is not None:
            return self.captions
        return () if self.caption is None else (self.caption,)


def _element(kind: pa.DataType) -> pa.Field:
    """A list's element under the name that Parquet gives it, so that a file reads back equal."""
    return pa.field("element", kind, nullable=False)


_TAG = pa.struct(
    [
        pa.field("tag", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("caption_index", pa.int32()),
        pa.field("caption_start", pa.int32()),
        pa.field("caption_end", pa.int32()),
        pa.field("presence", pa.float32()),
    ]
)
_REGION = pa.struct(
    [
        pa.field("tag", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
        pa.field("bbox", pa.list_(_element(pa.float32()), 4), nullable=False),
        pa.field("rle_mask", pa.string(), nullable=False),
        pa.field("area", pa.int64(), nullable=False),
        pa.field("predicted_iou", pa.float32(), nullable=False),
        pa.field("origin", pa.string(), nullable=False),
        pa.field("stability", pa.float32()),
    ]
)
_ERROR = pa.struct([pa.field(name, pa.string()) for name in ("stage", "type", "message")])

SCHEMA_VERSION = 3

COMMON_VERSION = 2
"""The version of new data sets whose tags have no presence."""

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
        pa.field("captions", pa.list_(_element(pa.string()))),
    ],
    metadata={"pad_schema_version": str(SCHEMA_VERSION)},
)
"""The columns of every shard, in order."""

_ADDED: dict[int, dict[str, set[str]]] = {
    2: {
        "": {"captions"},
        "tags": {"origin", "caption_index", "caption_start", "caption_end"},
        "labels": {"origin", "stability"},
    },
    3: {"tags": {"presence"}},
}
"""The columns ("") and fields of columns that each version brought."""


def _earlier_schema(version: int) -> pa.Schema:
    later = [added for number, added in _ADDED.items() if number > version]
    fields = []
    for field in PAD_SCHEMA:
        if any(field.name in added.get("", ()) for added in later):
            continue
        left_out = set().union(*(added.get(field.name, ()) for added in later))
        if left_out:
            kept = [part for part in field.type.value_type if part.name not in left_out]
            field = field.with_type(pa.list_(_element(pa.struct(kept))))
        fields.append(field)
    return pa.schema(fields, metadata={"pad_schema_version": str(version)})


SCHEMAS: dict[int, pa.Schema] = {
    1: _earlier_schema(1),
    2: _earlier_schema(2),
    SCHEMA_VERSION: PAD_SCHEMA,
}
"""The columns of the shards of every version that is read."""


def as_version(table: pa.Table, version: int) -> pa.Table:
    """A table under `PAD_SCHEMA` as a shard of a data set of an earlier version has it."""
    schema = SCHEMAS[version]
    if table.schema.equals(schema, check_metadata=True):
        return table
    columns = [_narrowed(table[field.name].combine_chunks(), field.type) for field in schema]
    return pa.table(columns, schema=schema)


def _narrowed(values: pa.Array, kind: pa.DataType) -> pa.Array:
    """The array without the fields of its structs that `kind` does not have."""
    if values.type == kind or not pa.types.is_list(kind):
        return values
    structs = values.values
    parts = [structs.field(field.name) for field in kind.value_type]
    whole = pa.StructArray.from_arrays(parts, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(values.offsets, whole, type=kind)


def records_to_table(records: Sequence[PadRecord]) -> pa.Table:
    """The records as an Arrow table under `PAD_SCHEMA`, one row each, in their order."""
    # Column by column: a fraction of the time that a dict per row takes.
    columns: dict[str, pa.Array] = {}
    for column in PAD_SCHEMA:
        values = [getattr(record, column.name) for record in records]
        if column.name in _ITEMS:
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
    parts = list(kind)
    arrays = []
    for field in parts:
        values = [getattr(item, field.name) for item in items]
        if pa.types.is_fixed_size_list(field.type):
            flat = pa.array([number for row in values for number in row], field.type.value_type)
            arrays.append(pa.FixedSizeListArray.from_arrays(flat, type=field.type))
        else:
            arrays.append(pa.array(values, field.type))
    return pa.StructArray.from_arrays(arrays, fields=parts)


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
    tags = _lists(batch.column("tags"), Tag)
    regions = batch.column("labels")
    counts = np.diff(regions.offsets.to_numpy())
    sizes = [
        (height, width)
        for width, height, count in zip(plain[2], plain[3], counts, strict=True)
        for _ in range(count)
    ]
    labels = _lists(regions, Region, masks=masks, size=sizes)
    has_captions = "captions" in batch.schema.names  # not before version 2
    captions = batch.column("captions").to_pylist() if has_captions else [None] * batch.num_rows
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
            captions=None if captions_of_row is None else tuple(captions_of_row),
        )
        for (
            *(image_id, uri, width, height, caption, status, error),
            tags_of_row,
            labels_of_row,
            captions_of_row,
        ) in zip(*plain, tags, labels, captions, strict=True)
    ]


def _lists(
    column: pa.ListArray, make: Callable[..., _Item], *, masks: bool = True, **known: list[Any]
) -> list[tuple[_Item, ...]]:
    """Row by row the column's structs, each as `make` of its fields.

    Fields that the column's version does not have get their defaults, masks that are not wanted the
    empty string, and those that are `known` already their values, of all rows in a row.
    """
    offsets = column.offsets.to_pylist()
    first, last = offsets[0], offsets[-1]
    structs = column.values.slice(first, last - first)
    there = {field.name for field in structs.type}
    columns = []
    for field in fields(cast(Any, make)):
        if field.name == "rle_mask" and not masks:
            columns.append([""] * len(structs))
        elif field.name in known:
            columns.append(known[field.name])
        elif field.name in there or field.default is MISSING:
            columns.append(_values(structs, field.name))
        else:
            columns.append([field.default] * len(structs))
    items = list(map(make, *columns))
    return [tuple(items[start - first : end - first]) for start, end in pairwise(offsets)]


def _values(structs: pa.StructArray, name: str) -> list[Any]:
    values = structs.field(name)
    if isinstance(values, pa.FixedSizeListArray):
        rows = values.flatten().to_numpy().reshape(len(values), values.type.list_size)
        return [tuple(row) for row in rows.tolist()]
    return values.to_pylist()
