"""Records through Arrow, Parquet and the PAD JSON form."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline.record_json import to_pad_json
from pad_pipeline.records import (
    PAD_SCHEMA,
    SCHEMAS,
    PadRecord,
    RecordError,
    Region,
    Tag,
    as_version,
    records_to_table,
    table_to_records,
)

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)
unit = st.floats(0, 1, width=32)
regions = st.builds(
    Region,
    tag=st.text(max_size=8),
    score=unit,
    bbox=st.tuples(float32s, float32s, float32s, float32s),
    rle_mask=st.text("01ab", max_size=8),
    area=st.integers(0, 2**40),
    predicted_iou=unit,
    origin=st.sampled_from(["model", "boxes", "masks"]),
    stability=st.none() | unit,
)
places = st.none() | st.integers(0, 2**31 - 1)
tags = st.builds(
    Tag,
    st.text(max_size=8),
    unit,
    st.sampled_from(["model", "classes", "captions"]),
    places,
    places,
    places,
    st.none() | unit,
)
records = st.builds(
    PadRecord,
    image_id=st.text(max_size=8),
    uri=st.text(max_size=8),
    width=st.integers(0, 2**31 - 1),
    height=st.integers(0, 2**31 - 1),
    caption=st.none() | st.text(max_size=8),
    status=st.sampled_from(["ok", "empty", "failed"]),
    error=st.none() | st.builds(RecordError, st.text(), st.text(), st.text()),
    tags=st.lists(tags, max_size=3).map(tuple),
    labels=st.lists(regions, max_size=3).map(tuple),
    captions=st.none() | st.lists(st.text(max_size=8), max_size=3).map(tuple),
)

VERSION_1 = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("caption", pa.string()),
        pa.field("status", pa.string(), nullable=False),
        pa.field(
            "error", pa.struct([(name, pa.string()) for name in ("stage", "type", "message")])
        ),
        pa.field(
            "tags",
            pa.list_(
                pa.field(
                    "element",
                    pa.struct(
                        [
                            pa.field("tag", pa.string(), nullable=False),
                            pa.field("score", pa.float32(), nullable=False),
                        ]
                    ),
                    nullable=False,
                )
            ),
            nullable=False,
        ),
        pa.field(
            "labels",
            pa.list_(
                pa.field(
                    "element",
                    pa.struct(
                        [
                            pa.field("tag", pa.string(), nullable=False),
                            pa.field("score", pa.float32(), nullable=False),
                            pa.field(
                                "bbox",
                                pa.list_(pa.field("element", pa.float32(), nullable=False), 4),
                                nullable=False,
                            ),
                            pa.field("rle_mask", pa.string(), nullable=False),
                            pa.field("area", pa.int64(), nullable=False),
                            pa.field("predicted_iou", pa.float32(), nullable=False),
                        ]
                    ),
                    nullable=False,
                )
            ),
            nullable=False,
        ),
    ],
    metadata={"pad_schema_version": "1"},
)
"""As the first release wrote it."""


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=5))
def test_records_survive_a_parquet_file(rows):
    file = io.BytesIO()
    pq.write_table(records_to_table(rows), file)
    table = pq.read_table(file)
    assert table.schema.equals(PAD_SCHEMA, check_metadata=True)
    assert table_to_records(table) == rows
    assert table_to_records(table.slice(1, 2)) == rows[1:3]


@settings(max_examples=30, deadline=None)
@given(st.lists(records, max_size=4), st.integers(0, 2))
def test_the_first_version_is_read_and_written(rows, start):
    assert SCHEMAS[1].equals(VERSION_1, check_metadata=True)
    file = io.BytesIO()
    pq.write_table(as_version(records_to_table(rows).slice(start), 1), file)
    table = pq.read_table(file)
    assert table.schema.equals(VERSION_1, check_metadata=True)
    assert table_to_records(table) == [
        replace(
            row,
            captions=None,
            tags=tuple(Tag(tag.tag, tag.score) for tag in row.tags),
            labels=tuple(replace(r, origin="model", stability=None) for r in row.labels),
        )
        for row in rows[start:]
    ]


@settings(max_examples=20, deadline=None)
@given(st.lists(records, max_size=4))
def test_the_second_version_has_no_presence(rows):
    table = as_version(records_to_table(rows), 2)
    assert table.schema.equals(SCHEMAS[2], check_metadata=True)
    fields = [field.name for field in table.schema.field("tags").type.value_type]
    assert fields == ["tag", "score", "origin", "caption_index", "caption_start", "caption_end"]
    assert table_to_records(table) == [
        replace(row, tags=tuple(replace(tag, presence=None) for tag in row.tags)) for row in rows
    ]


def test_no_records_make_an_empty_table_of_the_schema():
    table = records_to_table([])
    assert table.num_rows == 0
    assert table.schema == PAD_SCHEMA


def test_a_missing_column_is_named():
    table = records_to_table([]).drop_columns(["uri"])
    assert table_to_records(table) == []
    row = pa.table({"image_id": ["a"], "error": pa.nulls(1)})
    with pytest.raises(KeyError, match="uri"):
        table_to_records(row)


def test_pad_json_has_the_keys_and_conventions_of_table_9():
    box = tuple(np.float32([-0.0003204345703125, 182.57894897460938, 447.9995, 335.679]).tolist())
    record = PadRecord(
        image_id="00000/00000030.jpg",
        uri="s3://bucket/00000/00000030.jpg",
        width=448,
        height=336,
        caption="a canyon wall reflects the water on a sunny day in utah.",
        status="ok",
        error=None,
        tags=(Tag("water", 0.9), Tag("sky", 0.7)),
        labels=(Region("water", 0.8, box, "k5d4l5", 42, 0.9),),
    )
    assert to_pad_json(record) == {
        "image_id": "00000/00000030.jpg",
        "size": [448, 336],
        "caption": "a canyon wall reflects the water on a sunny day in utah.",
        "labels": [{"tag": "water", "bbox": list(box), "rle_mask": "k5d4l5"}],
    }
    assert to_pad_json(record)["labels"][0]["bbox"][1] == 182.57894897460938
