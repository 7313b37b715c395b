"""COCO's file as people have it, and the names by which it fits a data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.ground_truth.coco import TrueObject, object_mask, read_coco
from pad_pipeline.ground_truth.names import pair_images, pair_tags


def write(path: Path, **changes: Any) -> str:
    whole = {
        "images": [
            {"id": 7, "file_name": "b/x.png", "width": 8, "height": 6},
            {"id": 2, "file_name": "y.png"},
        ],
        "annotations": [{"id": 0, "image_id": 7, "category_id": 3, "bbox": [1, 1, 4, 3]}],
        "categories": [{"id": 3, "name": "Cat"}],
    }
    path.write_text(json.dumps(whole | changes))
    return str(path)


def test_images_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    truth = read_coco(write(tmp_path / "truth.json"))
    assert [image.file_name for image in truth.images] == ["y.png", "b/x.png"]
    assert [image.size for image in truth.images] == [None, (8, 6)]
    [found] = truth.images[1].objects
    assert (found.bbox, found.area, found.is_crowd) == ((1, 1, 5, 4), 12, False)
    assert not truth.has_masks
    assert truth.num_objects == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"images": []},
        {"images": [{"id": 7, "file_name": "x"}] * 2},
        {"annotations": [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"image_id": 7, "category_id": 4, "bbox": [0, 0, 1, 1]}]},
        {"annotations": [{"image_id": 7, "category_id": 3, "bbox": [0, 0, float("nan"), 1]}]},
        {"annotations": [{"image_id": 7, "category_id": 3}]},
        {"categories": 5},
    ],
)
def test_a_file_that_is_not_coco_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"truth\.json should be COCO's instances JSON"):
        read_coco(write(tmp_path / "truth.json", **changes))


def test_a_mask_is_read_in_all_three_forms() -> None:
    mask = np.zeros((6, 8), bool)
    mask[1:4, 2:6] = True
    runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel().astype(int), prepend=0)), prepend=0)
    lengths = [*runs.tolist(), mask.size - int(runs.sum())]
    shapes = [
        [[2, 1, 6, 1, 6, 4, 2, 4]],
        {"size": [6, 8], "counts": lengths},
        {"size": [6, 8], "counts": masks.encode(mask)},
    ]
    for shape in shapes:
        found = TrueObject(1, (2, 1, 4, 3), 12, False, shape)
        np.testing.assert_array_equal(masks.decode(object_mask(found, 8, 6), 6, 8), mask)
    for damaged in ([[1, 2]], {"size": [8, 6], "counts": "x"}, None):
        with pytest.raises(ValueError, match=r"a polygon has|is not of an image of 8x6"):
            object_mask(TrueObject(1, (0, 0, 1, 1), 1, False, damaged), 8, 6)


def test_images_are_found_by_their_path_or_name(tmp_path: Path) -> None:
    truth = read_coco(write(tmp_path / "truth.json"))
    assert pair_images(["a/y.png", "b/x.png", "c/x.png"], truth, "data") == {
        "a/y.png": 0,
        "b/x.png": 1,
    }
    with pytest.raises(UserError, match=r"1 image of 2 in .* not in data, such as y\.png"):
        pair_images(["a/y.png", "b/y.png", "b/x.png"], truth, "data")
    images = [{"id": 1, "file_name": "y.png"}, {"id": 2, "file_name": "other/y.png"}]
    truth = read_coco(write(tmp_path / "truth.json", images=images, annotations=[]))
    with pytest.raises(UserError, match=r"y\.png and other/y\.png of .* are both a/y\.png in data"):
        pair_images(["a/y.png"], truth, "data")


def test_a_map_of_names_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "match.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"match\.json is not valid JSON"):
        pair_tags({"sofa"}, {1: "couch"}, str(path))
    path.write_text("[]")
    with pytest.raises(UserError, match="should be a JSON object"):
        pair_tags({"sofa"}, {1: "couch"}, str(path))
    path.write_text('{"sofa": "Couch"}')
    assert pair_tags({"sofa", "Couch"}, {1: "couch"}, str(path)) == {"sofa": 1, "Couch": 1}
