"""What 8-bit products change is told mask by mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from pad_pipeline.annotate.compare_precision import Change, PrecisionChanges, compare_precision
from pad_pipeline.engine.config import demo
from pad_pipeline.errors import UserError
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.scenes.writer import HELD_OUT_SEED
from pad_pipeline.sources import list_source


def test_the_embedded_segmenter_changes_a_little_and_the_image_is_named(tmp_path: Path) -> None:
    for index in range(2):
        Image.fromarray(generate_scene(HELD_OUT_SEED + index).image).save(tmp_path / f"{index}.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    config = replace(demo(), device="cpu")
    done: list[int] = []
    found = compare_precision(config, list(list_source(str(tmp_path))), done.append)
    assert done == [3]
    assert (found.num_images, found.num_failed, found.emulated) == (3, 1, True)
    assert (found.device, found.dtype) == ("cpu", "float32")
    assert {change.image_id for change in found.changes} == {"0.png", "1.png"}
    assert 0.97 < found.ious.mean() < 1
    facts = found.to_dict()
    assert facts["num_masks"] == len(facts["masks"]) == len(found.changes)
    assert 0 < facts["predicted_iou_difference_median"] < 0.01


def test_of_each_image_the_mask_that_changes_most_is_named_most_first() -> None:
    changes = [
        Change("a", "cat", 0.9, 0.01),
        Change("a", "dog", 0.8, -0.03),
        Change("b", "cat", 0.7, 0.0),
        Change("c", "cat", 1.0, 0.02),
    ]
    found = PrecisionChanges(
        quantize="fp8", emulated=True, device="cpu", dtype="float32", num_images=3, num_failed=0,
        changes=changes,
    )  # fmt: skip
    assert [(change.image_id, change.label) for change in found.worst_images(2)] == [
        ("b", "cat"), ("a", "dog"),
    ]  # fmt: skip
    facts = found.to_dict()
    assert facts["mask_iou_mean"] == pytest.approx(0.85)
    assert facts["mask_iou_quantile_5"] == pytest.approx(0.715)
    assert facts["predicted_iou_difference_median"] == pytest.approx(0.015)
    assert facts["predicted_iou_difference_largest"] == pytest.approx(0.03)


def test_masks_that_are_given_are_nothing_to_compare() -> None:
    config = replace(demo(), device="cpu")
    given = replace(
        config,
        detect=replace(config.detect, from_="boxes", boxes="boxes.json"),
        segment=replace(config.segment, from_="masks"),
    )
    with pytest.raises(UserError, match="the masks are given"):
        compare_precision(given, [])


def test_without_a_mask_there_is_nothing_to_compare(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match="no thing was found in 1 images \\(1 of them failed\\)"):
        compare_precision(replace(demo(), device="cpu"), list(list_source(str(tmp_path))))
