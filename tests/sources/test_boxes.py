"""Boxes and masks from files, matched to images; what cannot be used is counted and named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.given import GivenRegion
from pad_pipeline.sources import Given, ManifestRow, is_box_file, list_source
from tests.dataset.example import example_records, write_dataset
from tests.sources.samples import image, write


def coco(*annotations: dict, **changes: object) -> dict:
    return {
        "images": [
            {"id": n, "file_name": f"{n}.jpg", "width": 20, "height": 10} for n in range(1, 4)
        ],
        "annotations": [
            {"image_id": 1, "category_id": 7, "bbox": [2, 3, 4, 5], **one} for one in annotations
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 9, "name": "red car"}],
        **changes,
    }


@pytest.fixture
def images(tmp_path: Path) -> str:
    write(f"{tmp_path}/images", {f"{n}.jpg": image(n) for n in range(1, 4)})
    return f"{tmp_path}/images"


def listed(images: str, boxes: object, *, masks: bool = False) -> list[ManifestRow]:
    return list(list_source(images, given=Given(boxes=str(boxes), masks=masks)))


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_coco_boxes_in_their_order(tmp_path: Path, images: str, caplog) -> None:
    content = coco({"category_id": 9}, {"score": 0.5, "bbox": [0, 0, 9.5, 1]}, {"image_id": 3})
    with caplog.at_level(logging.INFO):
        rows = listed(images, write_json(tmp_path / "b.json", content))
    assert rows[0].regions == (
        GivenRegion("red car", (2, 3, 6, 8), image_size=(20, 10)),
        GivenRegion("dog", (0, 0, 9.5, 1), 0.5, image_size=(20, 10)),
    )
    assert rows[1].regions == ()
    assert [region.tag for region in rows[2].regions or ()] == ["dog"]
    assert "3 images have some, 0 do not; 0 names are not of the source" in caplog.text


def test_polygons_and_both_forms_of_rle(tmp_path: Path, images: str) -> None:
    square = [2, 3, 6, 3, 6, 8, 2, 8]
    counts = "2040"
    content = coco(
        {"segmentation": [square]},
        {"segmentation": {"size": [10, 20], "counts": [23, 5, 172]}},
        {"segmentation": {"size": [10, 20], "counts": counts}},
    )
    rows = listed(images, write_json(tmp_path / "b.json", content), masks=True)
    polygon, lengths, compressed = rows[0].regions or ()
    assert polygon.polygons == (tuple(map(float, square)),)
    assert masks.area(polygon.placed(20, 10).rle_mask or "", 10, 20) == 20
    assert masks.area(lengths.placed(20, 10).rle_mask or "", 10, 20) == 5
    assert compressed.rle_mask == counts


def test_what_cannot_be_used_is_counted_and_named(tmp_path: Path, images: str, caplog) -> None:
    content = coco(
        {"bbox": [2, 3, 0, 5]},
        {"bbox": [2, 3, float("nan"), 5], "image_id": 2},
        {"iscrowd": 1},
        {"score": 7},
        {"image_id": 99},
        {},
        images=[{"id": n, "file_name": f"{n}.jpg"} for n in (1, 2, 3, 4)],
    )
    with caplog.at_level(logging.INFO):
        rows = listed(images, write_json(tmp_path / "b.json", content))
    assert [len(row.regions or ()) for row in rows] == [1, 0, 0]
    for text in (
        "1 box that has no area is left out (1.jpg)",
        "1 box that is not finite is left out (2.jpg)",
        "1 box of a crowd is left out (1.jpg)",
        "1 box that has a score beyond 0 to 1 is left out (1.jpg)",
        "1 box of an image that the file does not list is left out (99)",
        "1 name is not of the source (4.jpg)",
    ):
        assert text in caplog.text


def test_masks_are_asked_for_and_missing(tmp_path: Path, images: str, caplog) -> None:
    rows = listed(images, write_json(tmp_path / "b.json", coco({}, {})), masks=True)
    assert rows[0].regions == ()
    assert "2 boxes without a mask are left out (1.jpg" in caplog.text


def test_yolo_boxes_and_polygons(tmp_path: Path) -> None:
    write(f"{tmp_path}/images/train", {"1.jpg": image(1), "2.jpg": image(2)})
    write(
        str(tmp_path),
        {
            "labels/train/1.txt": b"0 0.5 0.5 0.5 1\n\n1 0.25 0.5 0.5 0.2 0.75\n",
            "labels/train/2.txt": b"1 0 0 1 0 0.5 1\n",
            "data.yaml": b"path: x\nnames:\n  0: dog\n  1: red car\n",
        },
    )
    expected = [
        (
            GivenRegion("dog", (0.25, 0, 0.75, 1), is_relative=True),
            GivenRegion("red car", (0, 0.4, 0.5, 0.6), 0.75, is_relative=True),
        ),
        (GivenRegion("red car", (0, 0, 1, 1), 1.0, True, ((0, 0, 1, 0, 0.5, 1),)),),
    ]
    for source, labels in (("images", "labels"), ("images/train", "labels/train")):
        rows = listed(f"{tmp_path}/{source}", tmp_path / labels)
        assert [row.regions for row in rows] == expected
    triangle = expected[1][0].placed(20, 10)
    assert triangle.bbox == (0, 0, 20, 10)
    assert 80 <= masks.area(triangle.rle_mask or "", 10, 20) <= 110


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        ({"classes.txt": b"dog\nred car\n"}, "red car"),
        ({"obj.names": b"dog\nred car\n"}, "red car"),
        ({"data.yaml": b"names: ['dog', \"red car\"]\n"}, "red car"),
        ({"data.yaml": b"names:\n- dog\n- red car\nnc: 2\n"}, "red car"),
        ({}, "1"),
    ],
)
def test_names_of_yolo_classes(tmp_path: Path, images: str, names, labels, caplog) -> None:
    write(f"{tmp_path}/labels", {"1.txt": b"1 .5 .5 .5 .5\n", **names})
    rows = listed(images, tmp_path / "labels")
    assert [region.tag for region in rows[0].regions or ()] == [labels]
    assert ("boxes are labelled with their class numbers" in caplog.text) == (not names)


def test_an_earlier_data_set(tmp_path: Path) -> None:
    records = example_records()
    url = write_dataset(tmp_path / "set", records, schema_version=1)
    write(f"{tmp_path}/images", {record.image_id: image() for record in records})
    for with_masks in (False, True):
        rows = listed(f"{tmp_path}/images", url, masks=with_masks)
        regions = rows[0].regions or ()
        assert [one.tag for one in regions] == ["apple", "sail boat"]
        assert regions[1].score == 0.25
        assert [one.rle_mask for one in regions] == [
            label.rle_mask if with_masks else None for label in records[0].labels
        ]


def test_names_that_fit_several_images_or_none(tmp_path: Path, images: str) -> None:
    boxes = write_json(tmp_path / "b.json", coco({}))
    write(f"{tmp_path}/two", {"a/1.jpg": image(), "b/1.jpg": image()})
    with pytest.raises(UserError, match=r"names '1.jpg', which fits 2 images of the source: write"):
        listed(f"{tmp_path}/two", boxes)
    write(f"{tmp_path}/other", {"x.jpg": image()})
    with pytest.raises(UserError, match=r"names like '1.jpg', images are called like 'x.jpg'"):
        listed(f"{tmp_path}/other", boxes)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"boxes": []}, "should be COCO's JSON of boxes, an object with the lists images, anno"),
        (coco({"category_id": 8}), "is not COCO's JSON of boxes: KeyError 8"),
        (coco({"bbox": [1, 2]}), "is not COCO's JSON of boxes: ValueError"),
        (
            coco({"segmentation": {"counts": 7}}),
            "an annotation of .* should have a mask as polygons .* found .*'counts': 7",
        ),
        (coco({"segmentation": [["a"] * 6]}), "should have a mask as polygons"),
        ("{", "is not valid JSON"),
    ],
)
def test_damaged_files_are_refused(tmp_path: Path, images: str, content, message) -> None:
    path = tmp_path / "b.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(UserError, match=message):
        listed(images, path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 .5 .5 .5", "line 2 should be a class number with a box"),
        ("dog .5 .5 .5 .5", "line 2 should be a class number"),
        ("7 .5 .5 .5 .5", "line 2 is of class 7, which has no name"),
    ],
)
def test_damaged_yolo_lines_are_refused(tmp_path: Path, images: str, line, message) -> None:
    text = f"0 .5 .5 .5 .5\n{line}\n".encode()
    write(f"{tmp_path}/labels", {"1.txt": text, "classes.txt": b"dog\ncat\n"})
    with pytest.raises(UserError, match=message):
        listed(images, tmp_path / "labels")


def test_what_is_not_there_or_empty(tmp_path: Path, images: str) -> None:
    with pytest.raises(UserError, match="no such file or folder of boxes"):
        listed(images, tmp_path / "gone.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="holds neither a PAD data set nor text files of YOLO"):
        listed(images, tmp_path / "empty")


def test_a_name_without_a_file_is_a_column(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert not is_box_file("objects")
    assert is_box_file("b.json")
    (tmp_path / "labels").mkdir()
    assert is_box_file("labels")


@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_masks_in_a_column(tmp_path: Path, images: str, name: str) -> None:
    square = [[1.0, 1.0, 3.0, 1.0, 3.0, 3.0, 1.0, 3.0]]
    things = [{"label": "dog", "segmentation": square}, {"label": "cat", "bbox": [0, 0, 2, 2]}]
    row = {"image": "1.jpg", "things": things}
    source = f"{images}/{name}"
    if name.endswith("jsonl"):
        Path(source).write_text(json.dumps(row) + "\n")
    else:
        pq.write_table(pa.Table.from_pylist([row]), source)
    given = Given(boxes="things", masks=True)
    [found] = list_source(source, given=given)
    assert found.regions == (
        GivenRegion("dog", (1, 1, 3, 3), polygons=((1, 1, 3, 1, 3, 3, 1, 3),)),
    )
