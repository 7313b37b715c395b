"""Intervals of COCO's figures: a draw of images has the figures of those images themselves."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.detections import _measure, evaluate_detections
from pad_pipeline.ground_truth.coco import read_coco
from pad_pipeline.records import Region
from tests.evaluate.test_detections import SIZE, region, write_records

NUM_IMAGES = 6
Thing = tuple[str, int, int, int]
"""Category, x, y, side."""


def drawn(seed: int) -> tuple[list[list[Thing]], list[list[Region]]]:
    """Objects and regions of some images: near ones, false ones, of two categories."""
    draw = random.Random(seed)
    objects, regions = [], []
    for _ in range(NUM_IMAGES):
        things = [
            (draw.choice(["cat", "dog"]), draw.randrange(0, 20), draw.randrange(0, 20), 12)
            for _ in range(draw.randrange(4))
        ]
        objects.append(things)
        found = [
            region(tag, x + draw.randrange(3), y + draw.randrange(3), side, draw.random())
            for tag, x, y, side in things
            if draw.random() < 0.8
        ]
        found += [
            region(draw.choice(["cat", "dog"]), draw.randrange(25), 5, 10, draw.random())
            for _ in range(draw.randrange(3))
        ]
        regions.append(found)
    return objects, regions


def write(
    folder: Path, objects: list[list[Thing]], regions: list[list[Region]], counts: list[int]
) -> tuple[str, str]:
    """A data set and its truth in which image i stands counts[i] times."""
    folder.mkdir()
    places = [place for place, count in enumerate(counts) for _ in range(count)]
    annotations = []
    for number, place in enumerate(places):
        for name, x, y, side in objects[place]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": ["cat", "dog"].index(name) + 1,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "segmentation": {
                        "size": [SIZE, SIZE],
                        "counts": region(name, x, y, side, 1).rle_mask,
                    },
                }
            )
    truth = {
        "images": [
            {"id": number, "file_name": f"{number:02d}.png", "width": SIZE, "height": SIZE}
            for number in range(len(places))
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    (folder / "truth.json").write_text(json.dumps(truth))
    records = {f"{number:02d}": regions[place] for number, place in enumerate(places)}
    return write_records(folder / "annotations", records), str(folder / "truth.json")


@pytest.mark.parametrize("seed", [1, 2])
def test_a_draw_has_the_figures_of_its_images(tmp_path: Path, seed: int) -> None:
    objects, regions = drawn(seed)
    annotations, truth = write(tmp_path / "all", objects, regions, [1] * NUM_IMAGES)
    scores = _measure(annotations, read_coco(truth), None).scores
    generator = np.random.default_rng(seed)
    draws = [[1] * NUM_IMAGES, *generator.multinomial(NUM_IMAGES, [1 / NUM_IMAGES] * 6, 3).tolist()]
    for number, counts in enumerate(draws):
        place = write(tmp_path / str(number), objects, regions, counts)
        expected = evaluate_detections(*place, str(tmp_path / f"out{number}")).summary["metrics"]
        assert len(expected) == 8
        for name, value in expected.items():
            [found] = scores.metrics[name].resampled(np.array([counts]))
            assert found == pytest.approx(value, abs=1e-9), (name, counts)


def test_intervals_and_a_paired_comparison_are_written(tmp_path: Path) -> None:
    objects, regions = drawn(3)
    ours, truth = write(tmp_path / "ours", objects, regions, [1] * NUM_IMAGES)
    worse = [found if place % 2 else [] for place, found in enumerate(regions)]
    theirs, _ = write(tmp_path / "theirs", objects, worse, [1] * NUM_IMAGES)
    report = evaluate_detections(ours, truth, str(tmp_path / "out"), against=theirs)
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    for name, value in summary["metrics"].items():
        low, high = summary["intervals"][name]
        assert low <= value <= high or name.startswith("mask_")
        assert low < high
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    difference = found["metrics"]["AP50"]
    assert difference["difference"] == pytest.approx(difference["value"] - difference["against"])
    assert difference["difference"] > 0
    assert difference["interval"][0] >= 0
    assert found["by"] == "F1"
    better = {row["image"] for row in found["wins"]}
    assert better
    assert better <= {"00.png", "02.png", "04.png"}
    assert found["num_losses"] == 0
    shown = "\n".join(report.lines())
    assert f"by F1, better on {len(better)} images, worse on 0" in shown
    assert "AP50" in shown

    alone, _ = write(tmp_path / "fewer", objects, regions, [1] * 5 + [0])
    with pytest.raises(UserError, match=r"1 image of 6 in .* not in .*fewer"):
        evaluate_detections(ours, truth, str(tmp_path / "out2"), against=alone)
    assert not (tmp_path / "out2").exists()
