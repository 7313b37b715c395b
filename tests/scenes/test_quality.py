"""The measuring of records against scenes: perfect, wrong and missing answers."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from pad_pipeline import masks
from pad_pipeline.records import PadRecord, Region, Tag
from pad_pipeline.scenes.generator import KINDS, Scene, generate_scene
from pad_pipeline.scenes.quality import average_precision, measure, tag_f1, truth_of


def perfect(scene: Scene) -> PadRecord:
    height, width = scene.image.shape[:2]
    regions = tuple(
        Region(
            tag=thing.kind,
            score=0.9,
            bbox=thing.bbox_xyxy,
            rle_mask=masks.encode(thing.mask),
            area=int(thing.mask.sum()),
            predicted_iou=1.0,
        )
        for thing in scene.things
    )
    return PadRecord(
        image_id="x",
        uri="x",
        width=width,
        height=height,
        caption=scene.caption,
        status="ok",
        error=None,
        tags=tuple(Tag(tag, 0.9) for tag in scene.tags),
        labels=regions,
    )


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [generate_scene(seed) for seed in range(30_000_000, 30_000_012)]


def test_the_truth_itself_is_perfect(scenes: list[Scene]) -> None:
    quality = measure([perfect(scene) for scene in scenes], scenes)
    assert quality.tag_f1 == quality.mask_iou == 1.0
    assert quality.ap50 == pytest.approx(1.0)
    assert quality.ap == pytest.approx(1.0)
    assert quality.matched == quality.regions == quality.things
    assert quality.things == sum(len(scene.things) for scene in scenes)


def test_wrong_tags_cost_precision_and_every_box(scenes: list[Scene]) -> None:
    def renamed(kind: str) -> str:
        return KINDS[(KINDS.index(kind) + 1) % len(KINDS)]

    records = []
    for scene in scenes:
        record = perfect(scene)
        labels = tuple(dataclasses.replace(r, tag=renamed(r.tag)) for r in record.labels)
        records.append(dataclasses.replace(record, labels=labels))
    quality = measure(records, scenes)
    assert quality.tag_f1 == 1.0
    assert quality.ap50 < 0.2
    assert quality.matched < quality.things


def test_missing_regions_lower_ap50_but_not_the_masks(scenes: list[Scene]) -> None:
    records = [perfect(scene) for scene in scenes]
    cut = [dataclasses.replace(record, labels=record.labels[:1]) for record in records]
    quality = measure(cut, scenes)
    assert 0 < quality.ap50 < 1
    assert quality.mask_iou == 1.0
    assert quality.matched == len(scenes)


def test_mask_iou_is_that_of_the_pixels(scenes: list[Scene]) -> None:
    scene = scenes[0]
    record = perfect(scene)
    thing = scene.things[0]
    half = thing.mask.copy()
    pixels = np.flatnonzero(half)
    half.flat[pixels[: len(pixels) // 2]] = False
    worse = dataclasses.replace(record.labels[0], rle_mask=masks.encode(half))
    quality = measure([dataclasses.replace(record, labels=(worse, *record.labels[1:]))], [scene])
    others = len(scene.things) - 1
    expected = (half.sum() / thing.mask.sum() + others) / (others + 1)
    assert quality.mask_iou == pytest.approx(expected)


def test_tag_f1_counts_over_all_images(scenes: list[Scene]) -> None:
    empty = dataclasses.replace(perfect(scenes[0]), tags=(), labels=(), status="empty")
    records = [empty, perfect(scenes[1])]
    first, second = len(scenes[0].tags), len(scenes[1].tags)
    assert tag_f1(records, scenes[:2]) == pytest.approx(2 * second / (second + first + second))
    assert tag_f1([], []) == 1.0


def test_a_box_of_lower_overlap_matches_nothing(scenes: list[Scene]) -> None:
    truth = truth_of(scenes[0])
    one = dataclasses.replace(truth, boxes_xyxy=np.array([[0, 0, 10.0, 10]]), kinds=np.array([3]))
    for shift, ap50 in ((3.0, 1.0), (4.0, 0.0)):  # overlaps of .54 and .43
        box = np.array([[shift, 0, 10 + shift, 10]])
        result = average_precision([one], [(box, np.array([0.5]), np.array([3]))])
        assert result["ap50"] == pytest.approx(ap50)
        assert result["pairs"] == [[(0, 0)] if ap50 else []]


def test_records_must_belong_to_their_scenes(scenes: list[Scene]) -> None:
    with pytest.raises(ValueError, match="1 records for 2 scenes"):
        measure([perfect(scenes[0])], scenes[:2])
    wrong = dataclasses.replace(perfect(scenes[0]), width=5)
    with pytest.raises(ValueError, match="5x"):
        measure([wrong], scenes[:1])
