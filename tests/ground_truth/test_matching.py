"""Matches and curves: against COCOeval over everything at once, and in cases worked out by hand."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pad_pipeline.errors import UserError
from pad_pipeline.ground_truth.coco import TrueImage, TrueObject
from pad_pipeline.ground_truth.entries import Kind, Pair, entries_of
from pad_pipeline.ground_truth.matching import Matcher
from pad_pipeline.records import PadRecord, Region
from tests.dataset.example import record, region

SIDE = 32


def square(x: int, y: int, side: int) -> np.ndarray:
    mask = np.zeros((SIDE, SIDE), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def found(tag: str, x: int, y: int, side: int, score: float) -> Region:
    return region(tag, square(x, y, side), score)


def true(category: int, x: int, y: int, side: int, *, crowd: bool = False) -> TrueObject:
    counts = region("", square(x, y, side)).rle_mask
    shape = {"size": [SIDE, SIDE], "counts": counts}
    return TrueObject(category, (x, y, side, side), side * side, crowd, shape)


def pair(place: int, objects: list[TrueObject], regions: list[Region]) -> Pair:
    whole = record(place, regions, width=SIDE, height=SIDE)
    return Pair(place, TrueImage(whole.image_id, (SIDE, SIDE), tuple(objects)), whole)


def random_pairs(seed: int, number: int) -> list[Pair]:
    """Objects, a few of them crowds, and regions near them, doubled, renamed and elsewhere."""
    make = np.random.default_rng(seed)
    pairs = []
    for place in range(number):
        objects = [
            true(int(c), int(x), int(y), int(s), crowd=make.random() < 0.1)
            for c, x, y, s in make.integers([1, 0, 0, 4], [4, 20, 20, 12], (make.integers(6), 4))
        ]
        regions = []
        for each in objects:
            for _ in range(make.integers(3)):
                x, y, side, _ = map(int, each.bbox_xywh)
                tag = "abc"[each.category - 1] if make.random() < 0.8 else "a"
                shift = int(make.integers(0, 3))
                score = round(float(make.random()), 1)  # so that some are equal
                regions.append(found(tag, x + shift, y, side, score))
        regions += [found("b", 24, 24, 6, 0.4)] * int(make.integers(2))
        pairs.append(pair(place, objects, regions))
    return pairs


def coco_at_once(kind: Kind, pairs: list[Pair], tags: dict[str, int]) -> COCOeval:
    """pycocotools on all images together, with its own parameters."""
    images = [{"id": p.place, "width": SIDE, "height": SIDE} for p in pairs]
    categories = [{"id": number} for number in tags.values()]
    both: list[COCO] = []
    for side in (0, 1):
        content = COCO()
        entries = [each for p in pairs for each in entries_of(p, kind, tags)[side]]
        for number, each in enumerate(entries, 1):
            each["id"] = number
        whole: Any = {"images": images, "annotations": entries, "categories": categories}
        content.dataset = whole
        content.createIndex()
        both.append(content)
    whole_eval = COCOeval(*both, "segm" if kind == "masks" else "bbox")
    whole_eval.evaluate()
    whole_eval.accumulate()
    whole_eval.summarize()
    return whole_eval


@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_curves_of_batches_are_those_of_pycocotools_at_once(kind: Kind) -> None:
    tags = {"a": 1, "b": 2, "c": 3, "nothing": 9}
    pairs = random_pairs(3, 40)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = coco_at_once(kind, pairs, tags)
    matcher = Matcher(kind, tags)
    for start in (20, 0, 30, 10):  # the data set may have another order than the truth
        matcher.add(pairs[start : start + 10])
    curves = matcher.curves(list(tags.values()))
    np.testing.assert_array_equal(curves.precision_TRK, expected.eval["precision"][:, :, :, 0, -1])
    np.testing.assert_array_equal(curves.recall_TK, expected.eval["recall"][:, :, 0, -1])
    summary = curves.summary()
    assert [summary[name] for name in ("AP", "AP50", "AP75", "AR")] == pytest.approx(
        [expected.stats[place] for place in (0, 1, 2, 8)]
    )
    assert 0.05 < summary["AP"] < 0.95
    assert curves.of(9) == dict.fromkeys(("AP", "AP50", "AP75", "AR"), -1.0)


def outcomes(one: Pair, iou: float = 0.5, kind: Kind = "boxes") -> tuple[list, list]:
    regions, objects = Matcher(kind, {"cat": 1, "dog": 2}).add([one])
    return (
        [(each.outcome, each.object) for each in regions if each.iou == iou and each.above < 0],
        [(each.outcome, each.region) for each in objects if each.iou == iou and each.above < 0],
    )


def test_what_they_are_from_a_score_on_is_that_without_the_other_regions() -> None:
    tags = {"a": 1, "b": 2, "c": 3}
    changed = 0
    for one in random_pairs(5, 60):
        whole = Matcher("boxes", tags).add([one])
        for least in (0.0, 0.1, 0.25, 0.3, 0.5, 0.8, 0.9, 1.0):
            least = float(np.float32(least))
            kept = [n for n, each in enumerate(one.record.labels) if each.score >= least]
            labels = tuple(one.record.labels[number] for number in kept)
            cut = replace(one, record=replace(one.record, labels=labels))
            regions, objects = Matcher("boxes", tags).add([cut])
            assert [
                (each.number, each.iou, each.outcome, each.object)
                for each in whole[0]
                if each.above < least <= each.up_to
            ] == [
                (kept[each.number], each.iou, each.outcome, each.object)
                for each in regions
                if each.above < 0
            ]
            assert [
                (each.number, each.iou, each.outcome, each.region)
                for each in whole[1]
                if each.above < least <= each.up_to
            ] == [
                (
                    each.number,
                    each.iou,
                    each.outcome,
                    None if each.region is None else kept[each.region],
                )
                for each in objects
                if each.above < 0
            ]
        changed += sum(each.above >= 0 for each in whole[0])
    assert changed > 3


def test_what_regions_and_objects_are_is_told() -> None:
    objects = [true(1, 0, 0, 10), true(2, 20, 0, 10), true(1, 0, 20, 10), true(2, 20, 20, 6)]
    objects.append(true(1, 12, 12, 8, crowd=True))
    regions = [
        found("cat", 0, 1, 10, 0.5),  # second to the next
        found("cat", 0, 0, 10, 0.9),
        found("cat", 21, 0, 10, 0.7),  # a dog
        found("dog", 12, 25, 4, 0.9),
        found("cat", 14, 14, 4, 0.3),  # in the crowd
        found("sofa", 0, 20, 10, 0.9),  # names nothing
    ]
    of_regions, of_objects = outcomes(pair(0, objects, regions))
    assert of_regions == [
        ("found already", 0),
        ("found", 0),
        ("wrong tag", 1),
        ("no object", None),
        ("ignored", 4),
    ]
    assert of_objects == [
        ("found", 1),
        ("wrong tag", 2),
        ("missed", None),
        ("missed", None),
        ("ignored", None),
    ]


def test_a_higher_iou_and_masks_are_stricter() -> None:
    one = pair(0, [true(1, 0, 0, 10)], [found("cat", 2, 0, 10, 0.9)])  # IoU 80 / 120
    assert outcomes(one)[0] == [("found", 0)]
    assert outcomes(one, 0.75) == ([("no object", None)], [("missed", None)])
    thin = replace(one.record.labels[0], rle_mask=region("", square(2, 0, 5)).rle_mask)
    one = Pair(0, one.image, replace(one.record, labels=(thin,)))
    assert outcomes(one)[0] == [("found", 0)]
    assert outcomes(one, kind="masks")[0] == [("no object", None)]


def test_a_failed_image_has_missed_everything() -> None:
    one = pair(0, [true(1, 0, 0, 10)], [])
    nothing = replace(one.record, status="failed", width=0, height=0)
    for kind in ("boxes", "masks"):
        assert outcomes(Pair(0, one.image, nothing), kind=kind)[1] == [("missed", None)]


def test_what_cannot_be_compared_is_named() -> None:
    one = pair(0, [true(1, 0, 0, 10)], [found("cat", 0, 0, 10, 0.9)])
    larger: PadRecord = replace(one.record, width=SIDE + 1)
    with pytest.raises(UserError, match="has 32x32 pixels in the ground truth and 33x32 in the"):
        outcomes(Pair(0, one.image, larger))
    damaged = replace(one.record.labels[0], rle_mask="zz~")
    broken = Pair(0, one.image, replace(one.record, labels=(damaged,)))
    with pytest.raises(UserError, match=r"cannot be compared: .*`pad-pipeline validate`"):
        outcomes(broken, kind="masks")
    odd = replace(one.image.objects[0], segmentation={"size": [SIDE, SIDE], "counts": [5, 3]})
    with pytest.raises(UserError, match="in the ground truth cannot be used: the runs do not"):
        outcomes(Pair(0, replace(one.image, objects=(odd,)), one.record), kind="masks")
