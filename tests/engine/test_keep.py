"""Which boxes and masks stay: thresholds of tags, negative words, two detectors, limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from pad_pipeline.engine.config import SuppressConfig
from pad_pipeline.engine.keep import DetectorRules, MaskLimits
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import segment_stage, suppress_stage
from pad_pipeline.given import GivenRegion
from pad_pipeline.models.protocols import Boxes, Mask
from tests import fakes

IMAGE = np.zeros((24, 32, 3), np.uint8)


@dataclass
class Detector:
    """Finds the same boxes whatever is asked."""

    found: Boxes
    asked: list[Sequence[str]] = field(default_factory=list)

    def input_size(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def detect(self, images, tags) -> list[Boxes]:
        self.asked += tags
        return [self.found for _ in images]


def boxes(*rows: tuple[str, float, tuple[float, ...]]) -> Boxes:
    labels, scores, xyxy = zip(*rows, strict=True)
    return Boxes(np.array(xyxy, np.float32), np.array(scores, np.float32), labels, 1)


LEFT, RIGHT, SHIFTED = (0, 0, 10, 10), (20, 0, 30, 10), (2, 0, 12, 10)
FOUND = boxes(("dog", 0.5, LEFT), ("cat", 0.5, RIGHT), ("Dog", 0.3, RIGHT))


def test_tags_have_thresholds_of_their_own() -> None:
    rules = DetectorRules(Detector(FOUND), box_threshold=0.5, thresholds={"dog": 0.25})
    [found] = rules.detect([IMAGE], [["dog", "cat"]])
    assert found.labels == ("dog", "Dog")  # a score must be above its threshold


def test_negative_words_are_asked_for_once_and_only_beside_tags() -> None:
    detector = Detector(FOUND)
    DetectorRules(detector, negative=("shadow", "dog")).detect([IMAGE] * 2, [["dog", "dog"], []])
    assert detector.asked == [["dog", "shadow"], []]


def test_negative_boxes_suppress_and_go() -> None:
    found = boxes(("Shadow", 0.9, LEFT), ("dog", 0.5, SHIFTED), ("cat", 0.4, RIGHT))
    sample = Sample(image_id="a", uri="", boxes=found)
    suppress_stage(SuppressConfig(), {}, ["shadow"])([sample])
    assert sample.boxes is not None
    assert sample.boxes.labels == ("cat",)


def test_two_detectors_agree_on_box_and_tag() -> None:
    second = Detector(boxes(("dog", 0.9, SHIFTED), ("bird", 0.9, RIGHT)))
    for least, labels in ((0.6, ("dog",)), (0.7, ())):  # they overlap by 2/3
        rules = DetectorRules(Detector(FOUND), second=second, second_iou=least)
        [found] = rules.detect([IMAGE], [["dog", "cat"]])
        assert found.labels == labels
    [found] = DetectorRules(Detector(FOUND), second=Detector(Boxes())).detect([IMAGE], [["dog"]])
    assert found.labels == ()


def mask(area: int, iou: float, stability: float | None = None) -> Mask:
    return Mask("", 24, 32, area, iou, stability)


@pytest.mark.parametrize(
    ("limits", "kept"),
    [
        (MaskLimits(), [0, 1, 2]),
        (MaskLimits(min_predicted_iou=0.7), [0, 2]),
        (MaskLimits(min_stability=0.7), [0, 2]),
        (MaskLimits(min_area=10), [1, 2]),
        (MaskLimits(max_area=10), [0, 1]),
        (MaskLimits(min_area=99), []),
    ],
)
def test_masks_within_limits_stay_with_their_boxes(limits: MaskLimits, kept: list[int]) -> None:
    masks = [mask(9, 0.7, 0.7), mask(10, -0.1, 0.6), mask(11, 0.9, None)]
    regions = tuple(GivenRegion(name, (0, 0, 1, 1)) for name in "abc")
    sample = Sample(image_id="a", uri="", boxes=FOUND, regions=regions)
    assert limits.apply(sample, masks) == tuple(masks[n] for n in kept)
    assert sample.boxes is not None
    assert sample.boxes.labels == tuple(FOUND.labels[n] for n in kept)
    assert [one.tag for one in sample.regions or ()] == [regions[n].tag for n in kept]


def test_the_segment_stage_drops_what_is_beyond_the_limits() -> None:
    sample = Sample(image_id="a", uri="", image=IMAGE, width=32, height=24, boxes=FOUND)
    stage = segment_stage(
        fakes.FakeSegmenter(), batch_size=1, seconds={}, limits=MaskLimits(min_predicted_iou=0.8)
    )
    stage([sample])
    assert sample.masks == ()
    assert len(sample.boxes_xyxy) == 0
