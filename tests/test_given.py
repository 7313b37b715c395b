"""Boxes that users give: their forms, and their places in an image."""

from __future__ import annotations

import numpy as np
import pytest

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.given import GivenRegion, read_regions


@pytest.mark.parametrize(
    ("value", "regions"),
    [
        (None, []),
        ([], []),
        ([[1, 2, 3, 4]], [("object", (1, 2, 3, 4), 1.0)]),
        ([{"bbox": (1, 2, 3, 4), "label": " dog "}], [("dog", (1, 2, 3, 4), 1.0)]),
        ([{"box": [1, 2, 3, 4], "tag": "cat", "score": 0.5}], [("cat", (1, 2, 3, 4), 0.5)]),
        ([GivenRegion("cat", (0, 0, 1, 1))], [("cat", (0, 0, 1, 1), 1.0)]),
        (
            {"bbox": [[1, 2, 3, 4], [5, 6, 7, 8]], "category": ["cat", None], "n": 2},
            [("cat", (1, 2, 3, 4), 1.0), ("object", (5, 6, 7, 8), 1.0)],
        ),
    ],
)
def test_forms(value, regions) -> None:
    found = read_regions(value, "image 1")
    assert [(one.tag, one.bbox, one.score) for one in found] == regions


def test_corner_and_size() -> None:
    assert read_regions([[1, 2, 3, 4]], "x", "xywh")[0].bbox == (1, 2, 4, 6)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("1,2,3,4", "image 1 should be a list of boxes, found '1,2,3,4'"),
        (7, "image 1 should be a list of boxes"),
        ([[1, 2, 3]], r"image 1: box 1 should be four numbers \(xyxy\), found '\[1, 2, 3\]'"),
        ([[1, 2, 3, 4], ["a", 2, 3, 4]], "image 1: box 2 should be four numbers"),
        ([{"label": "dog"}], "image 1: box 1 should be four numbers"),
        ([{"bbox": [1, 2, 3, 4], "category": 7}], "has the number 7 for a label"),
        ([{"bbox": [1, 2, 3, 4], "score": 7}], "a score from 0 to 1, found 'None' and '7'"),
        ([[0, 0, 10**400, 1]], "image 1: box 1 has a number that is too large"),
        ({"category": ["cat"]}, "should hold a list of boxes under bbox or box, .* found category"),
        ({"bbox": [[1, 2, 3, 4]], "label": []}, "others of the same length"),
    ],
)
def test_other_forms_are_refused(value, message) -> None:
    with pytest.raises(UserError, match=message):
        read_regions(value, "image 1")


def test_a_region_without_inside() -> None:
    assert GivenRegion("x", (1, 2, 1, 4)).problem == "has no area"
    assert GivenRegion("x", (3, 2, 1, 4)).problem == "has no area"
    assert GivenRegion("x", (1, 2, float("inf"), 4)).problem == "is not finite"
    assert GivenRegion("x", (1, 2, 3, 4)).problem is None


def test_places_in_an_image() -> None:
    relative = GivenRegion("x", (0.5, 0, 1, 0.5), is_relative=True)
    assert relative.placed(20, 10).bbox == (10, 0, 20, 5)
    # a little outside stays as it was given
    assert GivenRegion("x", (-3, 2, 30, 4)).placed(20, 10).bbox == (-3, 2, 30, 4)
    with pytest.raises(UserError, match="lies outside the image of 20x10 pixels"):
        GivenRegion("x", (20, 2, 30, 4)).placed(20, 10)
    with pytest.raises(UserError, match="is for 40x20 pixels, and the image has 20x10"):
        GivenRegion("x", (1, 2, 3, 4), image_size=(40, 20)).placed(20, 10)
    with pytest.raises(UserError, match=r"has a mask that does not fit: .* 20x10 has 200"):
        GivenRegion("x", (1, 2, 3, 4), rle_mask="4").placed(20, 10)


def test_polygons_become_one_mask() -> None:
    left, right = (0.0, 0.0, 4.0, 0.0, 4.0, 10.0, 0.0, 10.0), (10.0, 0.0, 14.0, 0.0, 14.0, 10.0)
    region = GivenRegion("x", (0, 0, 14, 10), polygons=(left, right)).placed(20, 10)
    assert region.polygons == ()
    mask = masks.decode(region.rle_mask or "", 10, 20)
    assert mask[:, :4].all()
    assert not mask[:, 5:10].any()
    assert mask[1, 12]


SQUARE = (2.0, 1.0, 6.0, 1.0, 6.0, 5.0, 2.0, 5.0)
POINTS = [[2, 1], [6, 1], [6, 5], [2, 5]]
FILLED = np.zeros((10, 20), bool)
FILLED[1:5, 2:6] = True
COUNTS = masks.encode(FILLED)


@pytest.mark.parametrize(
    "mask",
    [
        {"segmentation": [list(SQUARE)]},
        {"segmentation": list(SQUARE)},
        {"polygons": POINTS},
        {"polygons": [POINTS, [[1, 1], [2, 2]]]},
        {"mask": {"size": [10, 20], "counts": COUNTS}},
        {"mask": {"size": [10, 20], "counts": COUNTS.encode()}},
        {"rle": {"size": [10, 20], "counts": masks.runs(COUNTS)}},
        {"rle_mask": COUNTS, "bbox": (2, 1, 6, 5)},
    ],
)
def test_masks_in_every_form(mask) -> None:
    [region] = read_regions([{"label": "dog", **mask}], "x")
    assert region.bbox == (2, 1, 6, 5)
    assert region.placed(20, 10).rle_mask == COUNTS


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "x: box 1 should have a mask as polygons"),
        ({"segmentation": [["a"] * 6]}, "x: box 1 should have a mask as polygons"),
        ({"mask": 7}, "should have a mask as polygons .* found '7'"),
        ({"mask": {"size": [10, 20], "counts": [-1, 201]}}, "should have a mask as polygons"),
        ({"mask": {"size": [10], "counts": COUNTS}}, "should have a mask as polygons"),
        ({"rle_mask": COUNTS}, "x: box 1 should be four numbers"),
    ],
)
def test_masks_that_are_none_are_refused(mask, message) -> None:
    with pytest.raises(UserError, match=message):
        read_regions([mask], "x")


def test_a_polygon_far_outside_is_not_drawn() -> None:
    for value in (1e9, float("nan")):
        region = GivenRegion("x", (0, 0, 4, 4), polygons=((0.0, 0.0, value, 0.0, 4.0, 4.0),))
        with pytest.raises(UserError, match="has a polygon that reaches far out of the image"):
            region.placed(20, 10)
