"""Run-length masks against pycocotools and the recorded golden strings."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as coco_mask
from safetensors.numpy import load_file

from pad_pipeline import masks
from tests.golden_data import golden_dir

any_mask = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40))


def golden_masks():
    folder = golden_dir("pipeline")
    bits = load_file(folder / "nms_rle.safetensors")
    for number, case in enumerate(json.loads((folder / "rle_cases.json").read_text())):
        height, width = case["size_hw"]
        flat = np.unpackbits(bits[f"rle{number}.bits"])[: height * width]
        yield case, flat.reshape(height, width).astype(bool)


def test_every_golden_mask_both_ways():
    seen = 0
    for case, mask in golden_masks():
        height, width = case["size_hw"]
        assert masks.encode(mask) == case["counts"], case["note"]
        assert (masks.decode(case["counts"], height, width) == mask).all()
        assert masks.area_of_sound(case["counts"], height, width) == case["area"]
        assert masks.area(case["counts"], height, width) == case["area"] == mask.sum()
        x, y, w, h = case["bbox_xywh"]
        assert masks.bounding_box(case["counts"], height, width) == (x, y, x + w, y + h)
        seen += 1
    assert seen


@settings(max_examples=150, deadline=None)
@given(any_mask)
def test_encode_equals_pycocotools(mask):
    theirs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert masks.encode(mask) == theirs
    assert masks.encode(np.asfortranarray(mask)) == theirs
    decoded = masks.decode(theirs, *mask.shape)
    assert decoded.shape == mask.shape
    assert decoded.dtype == np.bool_
    assert (decoded == mask).all()


@settings(max_examples=100, deadline=None)
@given(any_mask)
def test_runs_are_those_of_the_column_major_pixels(mask):
    flat = mask.ravel(order="F")
    runs = masks.runs(masks.encode(mask))
    assert sum(runs) == flat.size
    assert (np.repeat(np.arange(len(runs)) % 2 == 1, runs) == flat).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(any_mask, max_size=6))
def test_masks_parsed_together_equal_masks_parsed_alone(group):
    strings = [masks.encode(mask) for mask in group]
    parsed = masks.parse_runs(*joined(strings))
    assert not parsed.faults.any()
    for number, string in enumerate(strings):
        assert runs_of(parsed, number) == masks.runs(string)


def runs_of(parsed: masks.ParsedRuns, number: int) -> list[int]:
    pairs = parsed.pairs[parsed.offsets[number] : parsed.offsets[number + 1]]
    assert pairs.ravel()[parsed.num_runs[number] :].tolist() in ([], [0])
    return pairs.ravel()[: parsed.num_runs[number]].tolist()


def joined(strings: list[str]):
    characters = np.frombuffer("".join(strings).encode(), dtype=np.uint8)
    return characters, np.cumsum([0, *(len(string.encode()) for string in strings)])


def test_a_large_run_survives():
    height, width = 30_000, 40_000
    counts = coco_mask.frPyObjects(
        {"size": [height, width], "counts": [5, height * width - 5]}, height, width
    )["counts"].decode()
    assert masks.runs(counts) == [5, height * width - 5]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ("0S1!", "does not occur"),
        ("0é", "does not occur"),
        ("0S", "cut off"),
        ("0" + "P" * 9 + "1", "too long"),
        ("0O", "negative"),
        ("00S1K", "negative"),
    ],
)
def test_malformed_strings_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        masks.runs(counts)


def test_a_faulty_mask_leaves_its_neighbours_alone():
    good = masks.encode(np.eye(5, dtype=bool))
    parsed = masks.parse_runs(*joined([good, "0S", good, "", "!", good]))
    assert [masks.FAULTS[fault] != "" for fault in parsed.faults] == [0, 1, 0, 0, 1, 0]
    for number in (0, 2, 5):
        assert runs_of(parsed, number) == masks.runs(good)


def test_a_mask_of_another_size_is_not_decoded():
    counts = masks.encode(np.ones((7, 5), dtype=bool))
    with pytest.raises(ValueError, match="35 pixels, but an image of 7x6 has 42"):
        masks.decode(counts, 6, 7)


def test_the_first_mask_of_table_9_has_the_height_of_its_image():
    assert masks.runs("k5d4l5")[:3] == [187, 148, 188]
