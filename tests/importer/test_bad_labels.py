"""Labels that do not fit are counted and named, files that are none are refused in a sentence."""

from __future__ import annotations

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pad_pipeline import masks
from pad_pipeline.annotate.resume import open_or_resume
from pad_pipeline.annotate.status import read_status
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.errors import UserError
from pad_pipeline.importer import coco as coco_format
from pad_pipeline.importer import formats
from pad_pipeline.importer.formats import ImportReport, import_labels
from pad_pipeline.importer.options import ImportOptions
from pad_pipeline.records import PadRecord

W, H = 40, 30
SQUARE = [5, 5, 15, 5, 15, 15, 5, 15]
COUNTS = masks.encode(np.eye(H, W, dtype=bool))


def import_json(
    folder: Path, format: str, content: Any, **options: Any
) -> tuple[list[PadRecord], ImportReport]:
    source, output = folder / "labels.json", folder / "out"
    source.write_text(content if isinstance(content, str) else json.dumps(content))
    report = import_labels(str(source), str(output), format, ImportOptions(**options))
    return list(iter_records(open_dataset(str(output)))), report


def coco(*annotations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": [5, 5, 10, 10], **one}
            for n, one in enumerate(annotations)
        ],
        "images": [{"id": 1, "file_name": "a/b.png", "width": W, "height": H}],
        "categories": [{"id": 1, "name": "dog"}],
        **changes,
    }


GOOD = {"segmentation": [SQUARE]}


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ({}, "boxes without a mask"),
        ({"segmentation": []}, "boxes without a mask"),
        ({"segmentation": [[1, 2, 3, 4]]}, "polygons of fewer than three points"),
        ({"segmentation": [[5, 5, 15, 5, 25, 5]]}, "regions whose mask has no pixel"),
        ({"segmentation": [[5, 5, math.nan, 5, 15, 15]]}, "regions whose polygon reaches far"),
        ({"segmentation": [[5, 5, 1e12, 5, 15, 15]]}, "regions whose polygon reaches far"),
        ({"segmentation": [[5, 5, 15, 5, 15]]}, "labels that cannot be read"),
        ({"segmentation": "nonsense ~"}, "regions whose mask does not fit"),
        ({"segmentation": {"size": [W, H], "counts": COUNTS}}, "regions for an image of another"),
        ({"segmentation": {"size": [H, W], "counts": [7]}}, "labels that cannot be read"),
        ({**GOOD, "iscrowd": 1}, "regions of a crowd"),
        ({**GOOD, "bbox": [50, 5, 10, 10]}, "regions outside their image"),
        ({**GOOD, "bbox": [5, 5, 0, 10]}, "regions whose box has no area"),
        ({**GOOD, "bbox": [5, 5]}, "labels that cannot be read"),
        ({**GOOD, "category_id": 9}, "labels that cannot be read"),
        ({**GOOD, "score": 7}, "regions whose box has a score beyond 0 to 1"),
        ({**GOOD, "image_id": 9}, "annotations of images that the file does not list"),
    ],
)
def test_annotations_of_coco_that_do_not_fit(
    tmp_path: Path, annotation: dict[str, Any], reason: str
) -> None:
    [found], report = import_json(tmp_path, "coco", coco(GOOD, annotation))
    assert [label.tag for label in found.labels] == ["dog"]
    assert found.labels[0].area == 100
    [(kind, count)] = [(k, n) for k, n in report.left_out.items() if k.startswith(reason)]
    assert count == 1
    assert report.examples[kind]


def test_run_lengths_of_coco_in_every_form(tmp_path: Path) -> None:
    square = np.zeros((H, W), bool)
    square[5:15, 5:15] = True
    runs = {"size": [H, W], "counts": masks.runs(masks.encode(square))}
    compressed = {"size": [H, W], "counts": masks.encode(square)}
    shapes = [{"segmentation": one} for one in (runs, compressed, [SQUARE])]
    [found], report = import_json(tmp_path, "coco", coco(*shapes))
    assert {label.rle_mask for label in found.labels} == {masks.encode(square)}
    assert report.left_out == {}


def test_captions_of_coco_are_those_of_their_images(tmp_path: Path) -> None:
    both = [{"id": 8, "image_id": 1, "caption": text} for text in ("a dog", "one dog")]
    content = coco(GOOD)
    content["annotations"] += both
    [found], _ = import_json(tmp_path, "coco", content)
    assert (found.caption, found.captions) == ("a dog", ("a dog", "one dog"))
    assert len(found.labels) == 1


def test_boxes_can_be_filled(tmp_path: Path) -> None:
    boxes = [{}, {"bbox": [-5, 25, 20, 20]}, {"bbox": [5.2, 5.2, 0.1, 0.1]}]
    [found], report = import_json(tmp_path, "coco", coco(*boxes), fill_boxes=True)
    assert [(label.area, label.origin) for label in found.labels] == [(100, "boxes"), (75, "boxes")]
    assert report.left_out == {"regions whose mask has no pixel": 1}


def test_the_images_own_size_counts(tmp_path: Path) -> None:
    (tmp_path / "photos/a").mkdir(parents=True)
    Image.new("RGB", (W, H)).save(tmp_path / "photos/a/b.png")
    images = [
        {"id": 1, "file_name": "a/b.png"},
        {"id": 2, "file_name": "a/b.png", "width": H, "height": W},
        {"id": 3, "file_name": "c.png", "width": W, "height": H},
    ]
    content = coco(GOOD, {**GOOD, "image_id": 2}, {**GOOD, "image_id": 3}, images=images)
    [found], report = import_json(tmp_path, "coco", content, images=str(tmp_path / "photos"))
    assert (found.width, found.height, len(found.labels)) == (W, H, 1)
    assert report.left_out == {
        "images whose id an earlier one has": 1,
        "images that are not there or cannot be read": 1,
    }
    content = coco({**GOOD, "image_id": 2}, images=images[1:2])
    (tmp_path / "out/_manifest.json").parent.rename(tmp_path / "first")
    with pytest.raises(UserError, match=r"not one region .* regions for an image of another"):
        import_json(tmp_path, "coco", content, images=str(tmp_path / "photos"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("format", "content", "message"),
    [
        ("coco", "[1, 2]", r"should hold a JSON object, which starts with '\{'; found '\['"),
        ("coco", "{", "damaged at line 1"),
        ("coco", {"annotations": [1]}, "names no image"),
        ("coco", coco(GOOD, categories=[{"id": 1}]), "a category should have id and name"),
        (
            "coco",
            coco({}),
            "not one region of .* left out most of all: boxes without a mask .1, ",
        ),
        ("label-studio", "{}", "should hold a JSON list of entries"),
        ("label-studio", [7], "none of the 1 images could be read"),
        ("yolo-seg", "x", "expected data.yaml or a folder with it"),
        ("labelme", "[]", "none of the 1 images could be read"),
        ("detectron", {}, "unknown format 'detectron'; choose one of coco, yolo-seg"),
    ],
)
def test_files_that_are_none_are_refused(
    tmp_path: Path, format: str, content: Any, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        import_json(tmp_path, format, content)
    assert {path.name for path in tmp_path.iterdir()} == {"labels.json"}


def test_an_output_that_exists_is_refused(tmp_path: Path) -> None:
    import_json(tmp_path, "coco", coco(GOOD))
    with pytest.raises(UserError, match="out already exists; remove it or choose another"):
        import_json(tmp_path, "coco", coco(GOOD))


def test_what_is_imported_is_no_run(tmp_path: Path) -> None:
    import_json(tmp_path, "coco", coco(GOOD))
    output = str(tmp_path / "out")
    with pytest.raises(UserError, match="was not annotated: it holds labels that were imported"):
        read_status(output)
    with pytest.raises(UserError, match="was not annotated"):
        open_or_resume(output, [], {}, rows_per_shard=8, chunk_size=4)


def task(*results: dict[str, Any], **changes: Any) -> dict[str, Any]:
    size = {"original_width": W, "original_height": H}
    whole = [{"type": "polygonlabels", **size, **one} for one in results]
    return {
        "data": {"image": "/data/upload/7/0a1b2c3d-b.png"},
        "annotations": [{"result": whole}],
        **changes,
    }


POLYGON = {"value": {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["dog"]}}


def test_results_of_label_studio_that_do_not_fit(tmp_path: Path) -> None:
    rectangle = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["cat"]}
    results = [
        POLYGON,
        {"value": {"points": [[1, 2]], "polygonlabels": ["dog"]}},
        {"value": {"points": [[10, 10], [50, 10], [50, 50]], "polygonlabels": ["a", "b"]}},
        {**POLYGON, "image_rotation": 90},
        {**POLYGON, "original_width": -3},
        {"type": "rectanglelabels", "value": rectangle},
        {"type": "keypointlabels", "value": {}},
        {"type": "brushlabels", "value": {"rle": [1, 2], "brushlabels": ["dog"]}},
    ]
    [found], report = import_json(tmp_path, "label-studio", [task(*results)])
    assert (found.image_id, len(found.labels)) == ("b.png", 1)
    assert report.left_out == {
        "labels that cannot be read": 4,
        "labels of turned images or boxes": 1,
        "boxes without a mask": 1,
        "labels of a kind that has no mask or box": 1,
    }


def test_the_newest_annotation_of_label_studio_counts(tmp_path: Path) -> None:
    results = task(POLYGON)["annotations"][0]["result"]
    other = {"value": {**POLYGON["value"], "polygonlabels": ["cat"]}}
    newer = task(other)["annotations"][0]["result"]
    annotations = [
        {"result": newer, "updated_at": "2026-02-01T00:00:00Z"},
        {"result": results, "updated_at": "2026-01-01T00:00:00Z"},
        {"result": results, "updated_at": "2026-03-01T00:00:00Z", "was_cancelled": True},
    ]
    image = "https://host.example/photos/c%20d.png?x=1"
    tasks = [
        task(annotations=annotations),
        {"data": {"photo": image}, "predictions": [{"result": results}]},
        {"data": {"image": image}},
    ]
    found, report = import_json(tmp_path, "label-studio", tasks)
    assert [(one.image_id, one.labels[0].tag) for one in found] == [
        ("b.png", "cat"),
        ("photos/c d.png", "dog"),
    ]
    assert found[1].uri == image
    assert report.left_out == {
        "annotations that a later one of the same task replaces": 1,
        "tasks with neither an annotation nor a prediction": 1,
    }


def labelme(*shapes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "shapes": [{"label": "dog", "shape_type": "polygon", **one} for one in shapes],
        "imagePath": "..\\photos\\b.png",
        "imageWidth": W,
        "imageHeight": H,
        **changes,
    }


PAIRS = [[5, 5], [15, 5], [15, 15], [5, 15]]


def test_shapes_of_labelme(tmp_path: Path) -> None:
    png = tmp_path / "mask.png"
    Image.fromarray(np.full((3, 4), True)).save(png)
    encoded = base64.b64encode(png.read_bytes()).decode()
    shapes = [
        {"points": PAIRS},
        {"points": PAIRS, "group_id": 1},
        {"points": [[20, 5], [30, 5], [30, 15], [20, 15]], "group_id": 1},
        {"shape_type": "circle", "points": [[20, 15], [20, 25]]},
        {"shape_type": "mask", "points": [[2, 3], [5, 5]], "mask": encoded},
        {"shape_type": "mask", "points": [[38, 3], [41, 5]], "mask": encoded},
        {"shape_type": "mask", "points": [[2, 3], [5, 5]], "mask": "?"},
        {"shape_type": "rectangle", "points": [[15, 15], [5, 5]]},
        {"shape_type": "point", "points": [[1, 1]]},
        {"points": [[1, 1], [2, 2]]},
        {"points": [[1], [2]]},
        {"points": [["x", 2]] * 3},
    ]
    [found], report = import_json(tmp_path, "labelme", labelme(*shapes))
    assert found.image_id == "photos/b.png"
    areas = [label.area for label in found.labels]
    assert areas[:2] == [100, 200]
    assert areas[2] == pytest.approx(math.pi * 100, rel=0.03)
    assert areas[3] == 12
    assert found.labels[3].bbox == (2, 3, 6, 6)
    assert len(areas) == 4
    assert report.left_out == {
        "labels that cannot be read": 4,
        "boxes without a mask": 1,
        "labels of a kind that has no mask or box": 1,
        "polygons of fewer than three points": 1,
    }


def yolo(folder: Path) -> Path:
    for name in ("images/a.png", "images/b.png", "labels/a.txt", "labels/gone.txt"):
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (W, H)).save(folder / f"set/images/{name}.png")
    lines = ["0 .1 .1 .5 .1 .5 .5", "1 .5 .5 .2 .2", "0 .1 .1 .1 .1 .1 .1", "1 2 2 3 2 3 3"]
    (folder / "set/labels/a.txt").write_text("\n".join(lines))
    (folder / "set/labels/gone.txt").write_text(lines[0])
    (folder / "set/data.yaml").write_text("train: images\nval: images\nnames: [dog, cat]\n")
    return folder / "set"


@pytest.mark.parametrize("source", ["set", "set/data.yaml", "set/labels"])
def test_lines_of_yolo_that_do_not_fit(tmp_path: Path, source: str) -> None:
    yolo(tmp_path)
    report = import_labels(str(tmp_path / source), str(tmp_path / "out"), "yolo-seg")
    a, b = iter_records(open_dataset(report.output))
    assert [label.tag for label in a.labels] == ["dog"]
    assert (a.image_id, a.uri) == ("a.png", str(tmp_path / "set/images/a.png"))
    assert (b.status, report.num_empty) == ("empty", 1)
    assert report.left_out == {
        "label files of unknown images": 1,
        "boxes without a mask": 1,
        "regions whose box has no area": 1,
        "regions outside their image": 1,
    }


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("labels/a.txt", "0 .1 .1", "a.txt: line 1 should be a class number with a box"),
        ("labels/a.txt", "7 .1 .1 .5 .1 .5 .5", "line 1 is of class 7, which has no name"),
        ("data.yaml", "train: [", "is no YAML|holds|should give the classes"),
        ("data.yaml", "train: nowhere\nnames: [a]", "names no folder of images that is there"),
        ("data.yaml", "train: list.txt\nnames: [a]", "names list.txt, a list of images"),
    ],
)
def test_yolo_that_is_none_is_refused(tmp_path: Path, file: str, text: str, message: str) -> None:
    (yolo(tmp_path) / file).write_text(text)
    with pytest.raises(UserError, match=message):
        import_labels(str(tmp_path / "set"), str(tmp_path / "out"), "yolo-seg")
    assert not (tmp_path / "out").exists()


def test_no_more_is_read_than_the_shard_at_hand_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_read, read_before_writing = 0, []
    read, write = coco_format._image, formats.write_table

    def counted(*args: Any) -> Any:
        nonlocal num_read
        num_read += 1
        return read(*args)

    def noted(*args: Any, **options: Any) -> None:
        read_before_writing.append(num_read)
        write(*args, **options)

    monkeypatch.setattr(coco_format, "_image", counted)
    monkeypatch.setattr(formats, "write_table", noted)
    monkeypatch.setattr(formats, "ROWS_PER_SHARD", 100)
    images = [
        {"id": place, "file_name": f"{place}.png", "width": W, "height": H} for place in range(350)
    ]
    import_json(tmp_path, "coco", coco(GOOD, images=images))
    assert read_before_writing == [128, 256, 320, 350]  # 64 images are read together
