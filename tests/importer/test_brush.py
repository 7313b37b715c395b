"""Masks of Label Studio's brush, against bytes that its own SDK (2.1.2) wrote."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.importer.brush import decode_brush
from pad_pipeline.importer.formats import import_labels

PACKED = [
    *(0, 0, 0, 216, 57, 27, 254, 43, 0, 194, 127, 247, 192, 48),
    *(159, 253, 240, 12, 39, 255, 138, 192, 35, 255, 195, 224, 0),
]
MASK = np.zeros((6, 9), dtype=bool)
MASK[1:4, 2:7] = True
MASK[5, 0] = True


def test_the_sdk_s_bytes() -> None:
    np.testing.assert_array_equal(decode_brush(PACKED, 6, 9), MASK)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        ([], "has no header"),
        (PACKED[:9], "is cut off"),
        (PACKED[:7], "is cut off"),
        ([0, 0, 0, 217, *PACKED[4:]], "has 217 values for 9x6 pixels"),
        ([300], "range"),
    ],
)
def test_other_bytes_are_refused(packed: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_brush(packed, 6, 9)


def test_a_brush_becomes_a_region(tmp_path: Path) -> None:
    value = {"format": "rle", "rle": PACKED, "brushlabels": ["dog"]}
    size = {"original_width": 9, "original_height": 6}
    result = {"type": "brushlabels", "value": value, **size}
    task = {"data": {"image": "a.png"}, "annotations": [{"result": [result]}]}
    (tmp_path / "x.json").write_text(json.dumps([task]))
    report = import_labels(str(tmp_path / "x.json"), str(tmp_path / "out"), "label-studio")
    [record] = iter_records(open_dataset(report.output))
    [region] = record.labels
    np.testing.assert_array_equal(region.mask, MASK)
    assert (region.tag, region.bbox, region.origin) == ("dog", (0, 1, 7, 6), "masks")
