"""Boxes and masks against COCO's annotations, in cases worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.detections import evaluate_detections
from pad_pipeline.records import PadRecord, Region, records_to_table
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.review.events import new_event, region_digest
from pad_pipeline.review.log import ReviewLog

SIZE = 40


def region(tag: str, x: int, y: int, side: int, score: float) -> Region:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[y : y + side, x : x + side] = True
    counts = masks.encode(mask)
    return Region(tag, score, (x, y, x + side, y + side), counts, side * side, 0.9)


def write_records(folder: Path, regions: dict[str, list[Region]], **statuses: Any) -> str:
    records = [
        PadRecord(
            image_id=f"{name}.png",
            uri=f"{name}.png",
            width=SIZE,
            height=SIZE,
            caption=None,
            status=statuses.get(name, "ok" if found else "empty"),
            error=None,
            tags=(),
            labels=tuple(found),
        )
        for name, found in regions.items()
    ]
    folder.mkdir()
    pq.write_table(records_to_table(records), folder / "pad-00000.parquet")
    return str(folder)


def write_truth(path: Path, things: list[tuple[str, int, int, int, int]], **more: Any) -> str:
    """`things` are (category, image, x, y, side)."""
    names = sorted({name for name, *_ in things})
    annotations = []
    for number, (name, image, x, y, side) in enumerate(things):
        mask = region(name, x, y, side, 1).rle_mask
        annotations.append(
            {
                "id": number,  # from 0, which pycocotools would take for no match
                "image_id": image,
                "category_id": names.index(name) + 1,
                "bbox": [x, y, side, side],
                "segmentation": {"size": [SIZE, SIZE], "counts": mask},
            }
        )
    whole = {
        "images": [
            {"id": n, "file_name": f"folder/{n}.png", "width": SIZE, "height": SIZE} for n in (1, 2)
        ],
        "annotations": annotations,
        "categories": [{"id": n, "name": name} for n, name in enumerate(names, 1)],
    }
    path.write_text(json.dumps(whole | more))
    return str(path)


def test_average_precision_of_a_case_worked_out_by_hand(tmp_path: Path) -> None:
    truth = write_truth(
        tmp_path / "truth.json", [("Cat", 1, 0, 0, 10), ("Cat", 2, 0, 0, 10), ("Dog", 1, 20, 20, 9)]
    )
    records = write_records(
        tmp_path / "annotations",
        {
            "1": [region("cat", 0, 0, 10, 0.9), region("sofa", 1, 1, 5, 0.5)],
            "2": [region("cat", 25, 25, 10, 0.8)],  # not where the cat is
        },
    )
    report = evaluate_detections(records, truth, str(tmp_path / "out"))
    found = json.loads((tmp_path / "out/summary.json").read_text())
    # the cats' precision is 1 up to a recall of .5, 51 of the 101 recalls, and 0 behind; no dog
    assert found["per_tag"]["Cat"]["AP50"] == pytest.approx(51 / 101)
    assert found["per_tag"]["Cat"]["mask_AP"] == pytest.approx(51 / 101)
    assert found["per_tag"]["Cat"]["AR"] == 0.5
    assert found["per_tag"]["Dog"]["AP"] == 0
    assert found["metrics"]["AP50"] == pytest.approx(51 / 101 / 2)
    assert found["metrics"]["AR"] == 0.25
    assert (found["num_objects"], found["num_regions"]) == (3, 2)
    assert found["tags_without_category"] == {"sofa": 1}
    assert found["categories_without_tag"] == ["Dog"]
    assert (tmp_path / "out/pr_curves.png").stat().st_size > 5000
    assert "1 region of 1 tag that name no category are left out: sofa (1)" in "\n".join(
        report.lines()
    )


def test_tags_are_matched_by_a_file(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", [("couch", 1, 0, 0, 10)])
    records = write_records(
        tmp_path / "annotations", {"1": [region("sofa", 0, 0, 10, 0.9)], "2": []}
    )
    with pytest.raises(UserError, match=r"the tags are sofa, the categories couch; say .* match"):
        evaluate_detections(records, truth, str(tmp_path / "out"))
    (tmp_path / "match.json").write_text('{"sofa": "couch"}')
    match = str(tmp_path / "match.json")
    found = evaluate_detections(records, truth, str(tmp_path / "out"), match).summary
    assert found["metrics"]["AP"] == pytest.approx(1)
    (tmp_path / "match.json").write_text('{"sofa": "coach"}')
    with pytest.raises(UserError, match="names the category 'coach', which the truth has not"):
        evaluate_detections(records, truth, str(tmp_path / "out"), match)


def test_truth_that_was_not_annotated_is_refused(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", [("cat", 1, 0, 0, 10)])
    records = write_records(tmp_path / "annotations", {"1": [region("cat", 0, 0, 10, 0.9)]})
    with pytest.raises(UserError, match=r"1 image of 2 in .* not in .*, such as folder/2\.png"):
        evaluate_detections(records, truth, str(tmp_path / "out"))
    (tmp_path / "captions.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(UserError, match="should be COCO's instances JSON"):
        evaluate_detections(records, str(tmp_path / "captions.json"), str(tmp_path / "out"))


def test_rejected_regions_and_images_and_their_truth_do_not_count(tmp_path: Path) -> None:
    things = [("cat", 1, 0, 0, 10), ("cat", 2, 0, 0, 10)]
    truth = write_truth(tmp_path / "truth.json", things)
    regions = {
        "1": [region("cat", 0, 0, 10, 0.8), region("cat", 25, 25, 10, 0.9)],
        "2": [region("cat", 25, 25, 10, 0.7)],
    }
    records = write_records(tmp_path / "annotations", regions)
    log = ReviewLog(f"{records}/_review.jsonl")
    digest = region_digest(regions["1"][1])
    log.write(
        new_event("verdict", "anna", image="1.png", region=1, digest=digest, value="rejected")
    )
    log.write(new_event("verdict", "anna", image="2.png", value="rejected"))
    before = evaluate_detections(records, truth, str(tmp_path / "out")).summary
    assert before["metrics"]["AP"] < 0.3
    report = evaluate_detections(
        records,
        truth,
        str(tmp_path / "out"),
        against=records,
        review=ReviewChoice(without_rejected=True),
    )
    found = report.summary
    assert found["metrics"]["AP"] == pytest.approx(1)
    assert (found["num_images"], found["num_images_left_out"]) == (1, 1)
    assert (found["num_objects"], found["num_regions"]) == (1, 1)
    assert "1 image rejected or not accepted in the review left out" in "\n".join(report.lines())
    assert report.comparison is not None  # with the same images as annotated
    [differs] = [each for each in report.comparison.lines() if each.startswith("AP ")]
    assert "0.5000" in differs
    with pytest.raises(UserError, match="nothing is accepted in"):
        evaluate_detections(
            records, truth, str(tmp_path / "out"), review=ReviewChoice(only_accepted=True)
        )


def test_a_new_tag_is_what_is_compared(tmp_path: Path) -> None:
    truth = write_truth(tmp_path / "truth.json", [("couch", 1, 0, 0, 10)])
    sofa = region("sofa", 0, 0, 10, 0.9)
    records = write_records(tmp_path / "annotations", {"1": [sofa], "2": []})
    review = str(tmp_path / "review.jsonl")
    ReviewLog(review).write(
        new_event("tag", "a", image="1.png", region=0, digest=region_digest(sofa), value="couch")
    )
    choice = ReviewChoice(review=review)
    found = evaluate_detections(records, truth, str(tmp_path / "out"), review=choice).summary
    assert found["metrics"]["AP"] == pytest.approx(1)
    assert found["review"] == {"only_accepted": False, "without_rejected": False, "review": review}
