"""COCO, read by the libraries that many train and convert with; they are no requirement of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pad_pipeline import masks
from pad_pipeline.export.formats import export
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.records import PadRecord
from tests.dataset.example import HEIGHT, WIDTH, example_records, write_images

KEPT = [record for record in example_records() if record.status != "failed"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Where datumaro looks for them, beside the folder of the annotations."""
    write_images(tmp_path / "coco/images", example_records())
    return tmp_path / "coco/images"


def masks_of(record: PadRecord) -> list[np.ndarray]:
    return [masks.decode(region.rle_mask, HEIGHT, WIDTH) for region in record.labels]


def test_supervision_reads_boxes_masks_and_names(url: str, images: Path, tmp_path: Path) -> None:
    supervision = pytest.importorskip("supervision", reason="needs supervision: pip install it")
    dest = tmp_path / "coco.json"
    export(url, str(dest), "coco")
    loaded = supervision.DetectionDataset.from_coco(str(images), str(dest), force_masks=True)
    assert loaded.classes == ["apple", "sail boat", "tree", "çay — bardağı"]
    found = {path: detections for path, _, detections in loaded}
    assert len(found) == len(KEPT)
    for record in KEPT:
        [detections] = [one for path, one in found.items() if path.endswith(record.image_id)]
        assert len(detections) == len(record.labels)
        for number, region in enumerate(record.labels):
            assert detections.xyxy[number].tolist() == list(region.bbox)
            assert (detections.mask[number] == masks_of(record)[number]).all()
            assert loaded.classes[detections.class_id[number]] == region.tag


def test_datumaro_reads_a_split(url: str, images: Path, tmp_path: Path) -> None:
    datumaro = pytest.importorskip("datumaro", reason="needs datumaro: pip install it")
    options = ExportOptions(split="instances_train=0.5,instances_val=0.5")
    report = export(url, str(tmp_path / "coco/annotations"), "coco", options=options)
    assert images.parent == tmp_path / "coco"
    loaded = datumaro.Dataset.import_from(str(tmp_path / "coco"), "coco_instances")
    assert sorted(loaded.subsets()) == ["train", "val"]
    names = [label.name for label in loaded.categories()[datumaro.AnnotationType.label]]
    assert [name for name in names if name != "background"] == [
        *("apple", "sail boat", "tree", "çay — bardağı"),
    ]
    found = {item.id: item.annotations for item in loaded}
    assert len(found) == report.num_images == len(KEPT)
    for record in KEPT:
        annotations = found[record.image_id.removesuffix(".png")]
        drawn = [one.image.astype(bool) for one in annotations if hasattr(one, "image")]
        assert len(drawn) == len(record.labels)
        for wanted in masks_of(record):  # datumaro sorts them
            assert any((one == wanted).all() for one in drawn)
