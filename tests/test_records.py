"""Records through Arrow, Parquet and the PAD JSON form."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline.records import (
    PAD_SCHEMA,
    PadRecord,
    RecordError,
    Region,
    Tag,
    records_to_table,
    table_to_records,
    to_pad_json,
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
    tags=st.lists(st.builds(Tag, st.text(max_size=8), unit), max_size=3).map(tuple),
    labels=st.lists(regions, max_size=3).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(records, max_size=5))
def test_records_survive_a_parquet_file(rows):
    file = io.BytesIO()
    pq.write_table(records_to_table(rows), file)
    table = pq.read_table(file)
    assert table.schema.equals(PAD_SCHEMA, check_metadata=True)
    assert table_to_records(table) == rows
    assert table_to_records(table.slice(1, 2)) == rows[1:3]


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
