"""Formats of labelling and training programs, read back by their own rules."""

from __future__ import annotations

import io
import json
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from datasets import load_dataset
from PIL import Image
from pycocotools import mask as coco_mask

from pad_pipeline import masks
from pad_pipeline.export.formats import ExportReport, export
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.records import Region, Tag
from tests.dataset.example import ellipse, failed, record, region, write_dataset, write_images

W, H = 40, 30
RING = ellipse(20, 15, 14, 12) & ~ellipse(20, 15, 5, 4)
TWO = ellipse(8, 8, 6, 6) | ellipse(30, 20, 7, 7)
EMPTY = Region("ghost", 0.4, (1.0, 1.0, 5.0, 5.0), masks.encode(np.zeros((H, W), bool)), 0, 0.2)
BEYOND = Region("edge", 0.6, (-3.5, 20.0, 50.0, 31.5), masks.encode(ellipse(20, 27, 19, 3)), 1, 0.9)
OUTSIDE = Region("gone", 0.3, (60.0, 2.0, 70.0, 9.0), masks.encode(ellipse(5, 5, 2, 2)), 1, 0.1)
RECORDS = [
    record(0, [region("ring", RING, 0.9), region('two "parts"', TWO, 0.8), EMPTY]),
    failed(1),
    record(2, [BEYOND, OUTSIDE, region("ring", ellipse(9, 9, 4, 4), 0.5)]),
    record(3),
]


@pytest.fixture
def written(tmp_path: Path):
    url = write_dataset(tmp_path / "set", RECORDS)
    write_images(tmp_path / "images", RECORDS)

    def write(format: str, **options: object) -> tuple[Path, ExportReport]:
        dest = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        chosen = ExportOptions(images=str(tmp_path / "images"), **options)  # type: ignore[arg-type]
        return dest, export(url, str(dest), format, options=chosen)

    return write


def filled(points: list[list[float]]) -> np.ndarray:
    runs = coco_mask.frPyObjects([np.ravel(points).tolist()], H, W)
    return coco_mask.decode(runs)[..., 0].astype(bool)


def iou(found: np.ndarray, wanted: np.ndarray) -> float:
    return (found & wanted).sum() / (found | wanted).sum()


def mask_of(one: Region) -> np.ndarray:
    return masks.decode(one.rle_mask, H, W)


def test_yolo_has_a_polygon_for_every_mask(written) -> None:
    dest, report = written("yolo-seg")
    assert (report.num_images, report.num_regions) == (3, 5)
    assert report.left_out == {"failed": 1, "regions with an empty mask": 1}
    data = yaml.safe_load((dest / "data.yaml").read_text())
    assert data["train"] == data["val"] == "images/train"
    names = data["names"]
    assert sorted(names.values()) == ["edge", "ghost", "gone", "ring", 'two "parts"']
    assert sorted(names) == [0, 1, 2, 3, 4]
    for one in (RECORDS[0], RECORDS[2], RECORDS[3]):
        image = dest / "images/train" / one.image_id
        with Image.open(image) as opened:
            assert opened.size == (W, H)
        lines = (dest / "labels/train" / one.image_id).with_suffix(".txt").read_text().splitlines()
        wanted = [label for label in one.labels if label is not EMPTY]
        for line, label in zip(lines, wanted, strict=True):
            number, *shares = line.split()
            assert names[int(number)] == label.tag
            points = np.array(shares, float).reshape(-1, 2)
            assert points.min() >= 0
            assert points.max() <= 1
            assert iou(filled((points * (W, H)).tolist()), mask_of(label)) > 0.8


def test_polygons_without_tolerance_follow_every_pixel(written) -> None:
    dest, _ = written("labelme", polygon_tolerance=0)
    document = json.loads((dest / RECORDS[0].image_id).with_suffix(".json").read_text())
    assert document["imagePath"] == "00000000.png"
    assert (document["imageWidth"], document["imageHeight"]) == (W, H)
    assert [shape["label"] for shape in document["shapes"]] == ["ring", 'two "parts"']
    for shape, label in zip(document["shapes"], RECORDS[0].labels[:2], strict=True):
        assert iou(filled(shape["points"]), mask_of(label)) > 0.93
    assert (dest / RECORDS[0].image_id).is_file()


def test_voc_counts_pixels_from_one_and_clips(written) -> None:
    dest, report = written("voc")
    assert report.left_out == {"failed": 1, "regions outside of their image": 1}
    assert (dest / "ImageSets/Main/train.txt").read_text().split() == [
        one.image_id.removesuffix(".png") for one in RECORDS if one.status != "failed"
    ]
    labels = [line.split(":")[0] for line in (dest / "labelmap.txt").read_text().splitlines()[1:]]
    assert labels == ["background", "edge", "ghost", "gone", "ring", 'two "parts"']
    tree = ET.parse(dest / "Annotations/00000/00000002.xml").getroot()
    assert tree.findtext("filename") == "00000/00000002.png"
    assert [int(tree.findtext(f"size/{name}") or 0) for name in ("width", "height")] == [W, H]
    boxes = {
        thing.findtext("name"): [int(value.text or 0) for value in thing.findall("bndbox/*")]
        for thing in tree.findall("object")
    }
    assert boxes == {"edge": [1, 21, W, H], "ring": [6, 6, 13, 13]}


def test_label_studio_has_percentages(written) -> None:
    dest, report = written("label-studio")
    tasks = json.loads(dest.read_text())
    assert len(tasks) == report.num_images == 3
    assert tasks[0]["data"]["image"] == "/data/local-files/?d=00000/00000000.png"
    [prediction] = tasks[0]["predictions"]
    assert prediction["score"] == pytest.approx(0.9)
    for result, label in zip(prediction["result"], RECORDS[0].labels[:2], strict=True):
        assert result["value"]["polygonlabels"] == [label.tag]
        points = np.array(result["value"]["points"]) / 100 * (W, H)
        assert iou(filled(points.tolist()), mask_of(label)) > 0.8


def test_cvat_has_the_runs_of_each_box(written) -> None:
    dest, report = written("cvat")
    assert (report.num_regions, report.left_out["regions with an empty mask"]) == (5, 1)
    root = ET.parse(dest).getroot()
    assert [label.findtext("name") for label in root.findall("meta/task/labels/label")] == [
        *("edge", "ghost", "gone", "ring", 'two "parts"')
    ]
    images = root.findall("image")
    assert [image.get("id") for image in images] == ["0", "2", "3"]
    for image, one in zip(images, (RECORDS[0], RECORDS[2], RECORDS[3]), strict=True):
        assert image.get("name") == one.image_id
        labels = [label for label in one.labels if label is not EMPTY]
        for element, label in zip(image.findall("mask"), labels, strict=True):
            left, top, width, height = (
                int(element.get(name, "")) for name in ("left", "top", "width", "height")
            )
            lengths = [int(text) for text in element.get("rle", "").split(",")]
            inside = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(height, width)
            mask = np.zeros((H, W), bool)
            mask[top : top + height, left : left + width] = inside
            assert (mask == mask_of(label)).all()


def test_hf_is_parquet_with_an_image_column(written, tmp_path: Path) -> None:
    dest, report = written("hf", split="train=0.5,test=0.5")
    card = (dest / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    [config] = head["configs"]
    rows = 0
    for part in config["data_files"]:
        for path in sorted(dest.glob(part["path"])):
            table = pq.read_table(path)
            rows += len(table)
            for row in table.select(["image", "image_id", "labels"]).to_pylist():
                with Image.open(io.BytesIO(row["image"]["bytes"])) as image:
                    assert image.size == (W, H)
                assert row["image"]["path"] == row["image_id"].rpartition("/")[2]
    assert rows == report.num_images == 3
    assert [part["split"] for part in config["data_files"]] == ["train", "test"]
    loaded = load_dataset(str(dest), cache_dir=str(tmp_path / "cache"))
    assert loaded.keys() == {"train", "test"}
    for part in loaded.values():
        for row in part:
            assert row["image"].size == (W, H)


def test_grit_grounds_phrases_in_the_caption(tmp_path: Path) -> None:
    caption = "a red car by the sea"
    tags = (Tag("red car", 1.0, "captions", 0, 2, 9), Tag("sea", 1.0, "captions", 0, 17, 20))
    records = [
        record(0, [region("red car", ellipse(10, 10, 5, 5), 0.7)], caption=caption, tags=tags),
        record(1, [region("dog", ellipse(10, 10, 5, 5), 0.7)]),
    ]
    url = write_dataset(tmp_path / "set", records)
    report = export(url, str(tmp_path / "out.jsonl"), "grit")
    assert report.left_out == {"no phrase of the caption has a region": 1}
    [line] = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    [[start, end, *box, score]] = line["noun_chunks"]
    assert line["caption"][start:end] == "red car"
    assert box == pytest.approx([5 / W, 5 / H, 15 / W, 15 / H])
    assert score == pytest.approx(0.7)


def test_coco_clips_boxes_unless_told_not_to(written) -> None:
    dest, report = written("coco")
    assert report.left_out["regions outside of their image"] == 1
    assert [0, 20, W, 10] in [row["bbox"] for row in json.loads(dest.read_text())["annotations"]]
    dest, report = written("coco", clip=False)
    assert report.num_regions == 6
    found = json.loads(dest.read_text())
    assert [-3.5, 20, 53.5, 11.5] in [row["bbox"] for row in found["annotations"]]
    assert found["licenses"][0]["id"] == found["images"][0]["license"]


@pytest.mark.parametrize(
    "image_id",
    ["../../etc/passwd.png", "/abs.png", "a/../b.png", "c:\\x.png", "n\0l\n?.png", "ü 🦊.png"],
)
def test_no_image_id_leads_out_of_the_folder(tmp_path: Path, image_id: str) -> None:
    write_images(tmp_path / "images", [record(0)])
    image = tmp_path / "images" / record(0).image_id
    one = record(0, [region("ring", RING)], image_id=image_id, uri=str(image))
    url = write_dataset(tmp_path / "set", [one])
    for format in ("yolo-seg", "labelme", "voc"):
        assert export(url, str(tmp_path / "out" / format), format).num_images == 1
    [written] = tmp_path.glob("out/yolo-seg/images/train/**/*.png")
    assert written.read_bytes() == image.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"images", "out", "set"}
