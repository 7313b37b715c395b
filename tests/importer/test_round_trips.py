"""A data set that is exported and imported again is the same, in every format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline import masks
from pad_pipeline.dataset.reader import iter_records, open_dataset
from pad_pipeline.dataset.validate import validate
from pad_pipeline.evaluate.detections import evaluate_detections
from pad_pipeline.export.formats import export
from pad_pipeline.export.options import ExportOptions
from pad_pipeline.importer.formats import FORMATS, import_labels
from pad_pipeline.importer.options import ImportOptions
from pad_pipeline.records import PadRecord
from pad_pipeline.train.data.left_out import LeftOutSamples
from pad_pipeline.train.data.sample_sources import read_samples
from pad_pipeline.view.compare import Comparison, Rule
from pad_pipeline.view.source import DataSet
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    ellipse,
    failed,
    record,
    region,
    write_dataset,
    write_images,
)

RING = ellipse(20, 15, 14, 12) & ~ellipse(20, 15, 5, 4)
TWO = ellipse(8, 8, 6, 6) | ellipse(30, 20, 7, 7)
CORNERS = ellipse(8, 8, 6, 6)
CORNERS[14:18, 14:18] = True
RECORDS = [
    record(0, [region("ring", RING, 0.9), region('two "parts"', TWO, 0.8)]),
    failed(1),
    record(2, [region("çay — bardağı", ellipse(38, 28, 5, 5), 0.5), region("ring", CORNERS, 0.4)]),
    record(3, image_id="a b/100% ?.png", caption="last", captions=("last", "one more")),
]
SPLITS = [
    *((format, None) for format in FORMATS),
    ("yolo-seg", "train=0.5,val=0.5"),
    ("labelme", "train=0.5,val=0.5"),
]


@pytest.fixture
def images(tmp_path: Path) -> str:
    write_images(tmp_path / "images", RECORDS)
    return str(tmp_path / "images")


@pytest.fixture
def whole(tmp_path: Path) -> str:
    return write_dataset(tmp_path / "set", RECORDS)


def through(whole: str, images: str, format: str, split: str | None = None) -> str:
    folder = Path(whole).parent
    labels, output = folder / "labels.json", folder / "imported"
    options = ExportOptions(images=images, split=split)
    export(whole, str(labels), format, options=options)
    given = images if format in ("coco", "label-studio") else None
    report = import_labels(str(labels), str(output), format, ImportOptions(images=given))
    assert (report.num_images, report.num_regions, report.num_empty) == (3, 4, 1)
    assert report.left_out == {}
    return str(output)


def mask_of(one: PadRecord, number: int) -> np.ndarray:
    return masks.decode(one.labels[number].rle_mask, HEIGHT, WIDTH)


@pytest.mark.parametrize(("format", "split"), SPLITS)
def test_there_and_back(whole: str, images: str, format: str, split: str | None) -> None:
    output = through(whole, images, format, split)
    found = {one.image_id: one for one in iter_records(open_dataset(output))}
    wanted = {one.image_id: one for one in RECORDS if one.status != "failed"}
    assert found.keys() == wanted.keys()
    for image_id, one in found.items():
        before = wanted[image_id]
        assert (one.width, one.height, one.status) == (WIDTH, HEIGHT, before.status)
        assert [label.tag for label in one.labels] == [label.tag for label in before.labels]
        assert {tag.tag for tag in one.tags} == {label.tag for label in before.labels}
        assert {tag.origin for tag in one.tags} <= {"boxes"}
        if format != "yolo-seg":
            assert one.all_captions == before.all_captions
        for number, (label, was) in enumerate(zip(one.labels, before.labels, strict=True)):
            assert label.bbox == pytest.approx(was.bbox, abs=1)
            here, there = mask_of(one, number), mask_of(before, number)
            assert (here & there).sum() >= 0.99 * (here | there).sum()
            assert (label.origin, label.predicted_iou) == ("masks", 1)
            assert label.area == here.sum()
            if format in ("coco", "label-studio"):
                assert label.score == pytest.approx(was.score)
    checked = validate(output)
    assert (checked.ok, checked.num_warnings) == (True, {})


@pytest.mark.parametrize("format", FORMATS)
def test_training_reads_it(whole: str, images: str, format: str, tmp_path: Path) -> None:
    captions = {one.image_id: f"picture of {one.image_id}" for one in RECORDS}
    (tmp_path / "captions.json").write_text(json.dumps(captions))
    labels, output = tmp_path / "labels", tmp_path / "imported"
    export(whole, str(labels), format, options=ExportOptions(images=images))
    options = ImportOptions(images=images, captions=str(tmp_path / "captions.json"))
    import_labels(str(labels), str(output), format, options)
    left_out = LeftOutSamples()
    samples = list(read_samples(str(output), None, "pretrain", left_out))
    assert [sample.caption for sample in samples] == [
        f"picture of {one.image_id}" for one in RECORDS if one.status != "failed"
    ]
    for sample in samples:
        assert sample.image is not None
        assert Path(sample.image.uri).is_file()
        assert len(sample.tags) == len(sample.masks)


def test_it_is_compared_with_what_it_was_made_of(whole: str, images: str, tmp_path: Path) -> None:
    output = through(whole, images, "label-studio")
    export(whole, str(tmp_path / "truth.json"), "coco")
    report = evaluate_detections(output, str(tmp_path / "truth.json"), str(tmp_path / "report"))
    metrics = report.summary["metrics"]
    assert metrics["AP"] == pytest.approx(1)
    assert metrics["mask_AP"] == pytest.approx(1)


@pytest.mark.parametrize("format", ["coco", "yolo-seg"])
def test_the_viewer_finds_no_difference(
    whole: str, images: str, format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAD_CACHE", str(tmp_path / "cache"))
    here, there = DataSet(whole), DataSet(through(whole, images, format))
    comparison = Comparison(here, there)
    try:
        for by in ("boxes", "masks"):
            totals = comparison.totals(Rule(iou=0.95, by=by))
            assert (totals.shared, totals.differing) == (3, 0)
    finally:
        comparison.close()
        here.index.close()
        there.index.close()
