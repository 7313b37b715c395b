"""FiftyOne's own format, read as FiftyOne documents it and, where it is installed, by itself."""

from __future__ import annotations

import base64
import io
import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline import masks
from pad_pipeline.export.formats import export
from pad_pipeline.export.options import ExportOptions
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    ellipse,
    example_records,
    record,
    region,
    write_dataset,
    write_images,
)


@pytest.fixture
def exported(url: str, tmp_path: Path) -> Path:
    write_images(tmp_path / "images", example_records())
    options = ExportOptions(images=str(tmp_path / "images"), split="train=0.5,val=0.5")
    report = export(url, str(tmp_path / "out"), "fiftyone", options=options)
    assert (report.num_images, report.num_regions) == (6, 6)
    return tmp_path / "out"


def whole_mask(detection: dict) -> np.ndarray:
    """The mask in the image, as FiftyOne lays it over the box."""
    data = base64.b64decode(detection["mask"]["$binary"]["base64"])
    part = np.load(io.BytesIO(zlib.decompress(data)))
    x, y, width, height = detection["bounding_box"]
    x0, x1 = round(x * WIDTH), round((x + width) * WIDTH)
    y0, y1 = round(y * HEIGHT), round((y + height) * HEIGHT)
    assert part.shape == (y1 - y0, x1 - x0)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[y0:y1, x0:x1] = part
    return mask


def test_samples_hold_masks_scores_tags_and_parts(exported: Path) -> None:
    assert "version" not in json.loads((exported / "metadata.json").read_text())
    samples = json.loads((exported / "samples.json").read_text())["samples"]
    kept = [one for one in example_records() if one.status != "failed"]
    assert [sample["image_id"] for sample in samples] == [one.image_id for one in kept]
    assert {tuple(sample["tags"]) for sample in samples} == {("train",), ("val",)}
    for sample, one in zip(samples, kept, strict=True):
        assert (exported / sample["filepath"]).is_file()
        assert (sample["metadata"]["width"], sample["metadata"]["height"]) == (WIDTH, HEIGHT)
        assert sample.get("caption") == one.caption
        tags = sample["image_tags"]["classifications"]
        assert [tag["label"] for tag in tags] == [tag.tag for tag in one.tags]
        detections = sample["regions"]["detections"]
        assert [found["label"] for found in detections] == [label.tag for label in one.labels]
        for found, label in zip(detections, one.labels, strict=True):
            assert found["confidence"] == pytest.approx(label.score)
            assert found["detector_box"] == list(label.bbox)
            wanted = masks.decode(label.rle_mask, HEIGHT, WIDTH)
            assert (whole_mask(found) == wanted).all()


def test_a_mask_beyond_its_box_is_kept_and_what_lies_outside_is_counted(tmp_path: Path) -> None:
    wide = replace(region("wide", ellipse(20, 15, 15, 10)), bbox=(10.5, 10.5, 30.5, 45.0))
    gone = replace(
        region("gone", ellipse(20, 15, 9, 9)),
        bbox=(50.0, 40.0, 60.0, 50.0), rle_mask=masks.encode(np.zeros((HEIGHT, WIDTH), bool)),
    )  # fmt: skip
    records = [record(0, [wide, gone])]
    url = write_dataset(tmp_path / "set", records)
    write_images(tmp_path / "images", records)
    options = ExportOptions(images=str(tmp_path / "images"))
    report = export(url, str(tmp_path / "out"), "fiftyone", options=options)
    assert report.left_out == {"regions outside of their image": 1}
    [sample] = json.loads((tmp_path / "out/samples.json").read_text())["samples"]
    assert sample["tags"] == []
    [found] = sample["regions"]["detections"]
    assert (whole_mask(found) == ellipse(20, 15, 15, 10)).all()
    assert found["bounding_box"][1] + found["bounding_box"][3] == 1


def test_fiftyones_own_importer_reads_it(exported: Path) -> None:
    data = pytest.importorskip("fiftyone.utils.data", reason="needs fiftyone: pip install it")
    importer = data.FiftyOneDatasetImporter(str(exported))  # by itself it needs no MongoDB
    assert importer._is_legacy_format_data()
    with importer._to_legacy_importer() as samples:
        loaded = list(samples)
    kept = [one for one in example_records() if one.status != "failed"]
    assert [sample["image_id"] for sample in loaded] == [one.image_id for one in kept]
    for sample, one in zip(loaded, kept, strict=True):
        assert Path(sample.filepath).is_file()
        for found, label in zip(sample["regions"].detections, one.labels, strict=True):
            assert found.label == label.tag
            assert found.mask.sum() == label.area
