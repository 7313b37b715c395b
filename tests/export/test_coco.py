"""COCO, read by pycocotools."""

from __future__ import annotations

import contextlib
import io

import pytest
from pycocotools.coco import COCO

from pad_pipeline import masks
from pad_pipeline.export.formats import export
from tests.dataset.example import (
    HEIGHT,
    WIDTH,
    example_records,
)


def test_coco_loads_in_pycocotools(url, tmp_path):
    dest = tmp_path / "coco.json"
    report = export(url, str(dest), "coco")
    assert (report.num_images, report.num_regions) == (6, 6)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(dest))
    categories = coco.loadCats(coco.getCatIds())
    assert [(c["id"], c["name"]) for c in categories] == [
        (1, "apple"),
        (2, "sail boat"),
        (3, "tree"),
        (4, "çay — bardağı"),
    ]
    assert sorted(coco.getAnnIds()) == [1, 2, 3, 4, 5, 6]
    by_name = {image["file_name"]: image for image in coco.loadImgs(coco.getImgIds())}
    for one in example_records():
        if one.status == "failed":
            assert one.image_id not in by_name
            continue
        image = by_name[one.image_id]
        assert (image["width"], image["height"]) == (WIDTH, HEIGHT)
        annotations = coco.loadAnns(coco.getAnnIds(imgIds=[image["id"]]))
        assert len(annotations) == len(one.labels)
        for annotation, source in zip(annotations, one.labels, strict=True):
            x, y, w, h = annotation["bbox"]
            assert (x, y, x + w, y + h) == source.bbox
            mask = coco.annToMask(annotation).astype(bool)
            assert (mask == masks.decode(source.rle_mask, HEIGHT, WIDTH)).all()
            assert annotation["area"] == source.area == mask.sum()
            assert annotation["iscrowd"] == 0
            assert annotation["score"] == pytest.approx(source.score)
            assert annotation["predicted_iou"] == source.predicted_iou
            assert coco.cats[annotation["category_id"]]["name"] == source.tag
