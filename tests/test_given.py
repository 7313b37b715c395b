"""Boxes that users give: their forms, and their places in an image."""

from __future__ import annotations

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
