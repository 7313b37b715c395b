"""The stage that a detector with masks has in the place of detect, suppress and segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from pad_pipeline.engine.config import SuppressConfig
from pad_pipeline.engine.joint_stage import detect_masks_stage
from pad_pipeline.engine.keep import MaskDetectorRules, MaskLimits
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.engine.stages import ModelStage
from pad_pipeline.given import GivenRegion
from pad_pipeline.models.protocols import Boxes, Choose, Mask, MaskedBoxes
from pad_pipeline.records import Tag
from tests import fakes
from tests.engine.test_keep import LEFT, RIGHT, SHIFTED, Detector, boxes

FOUND = boxes(("dog", 0.5, LEFT), ("cat", 0.7, SHIFTED), ("shadow", 0.9, RIGHT), ("cat", 0.3, LEFT))


@dataclass
class MaskDetector(Detector):
    """Its masks have the score in hundredths for their area, its words a presence by length."""

    def detect_masks(
        self, images: Sequence[np.ndarray], tags: Sequence[Sequence[str]], choose: Choose
    ) -> list[MaskedBoxes]:
        self.asked += tags
        found = []
        for index, words in enumerate(tags):
            kept = self.found.take(choose(index, self.found))
            masks = tuple(Mask("", 24, 32, round(100 * score), 1.0) for score in kept.scores)
            found.append(MaskedBoxes(kept, masks, {word: len(word) / 10 for word in words}))
        return found


def stage(found: Boxes = FOUND, rules: dict | None = None, **options) -> ModelStage:
    detector = MaskDetectorRules(MaskDetector(found), **(rules or {}))
    return detect_masks_stage(
        detector, options.pop("suppression", SuppressConfig()), **options, **fakes.options({})
    )


def sample(*tags: str, **changes) -> Sample:
    image = np.zeros((24, 32, 3), np.uint8)
    words = tuple(Tag(tag, 0.5) for tag in tags)
    return Sample(image_id="a", uri="", image=image, width=32, height=24, tags=words, **changes)


def test_boxes_of_all_tags_suppress_each_other_and_presence_is_kept() -> None:
    [done] = stage()([sample("dog", "cat", "shadow")])
    record = to_record(done)
    assert [(one.tag, one.area) for one in record.labels] == [("shadow", 90), ("cat", 70)]
    assert [tag.presence for tag in record.tags] == [np.float32(x) for x in (0.3, 0.3, 0.6)]
    assert (record.status, record.labels[0].predicted_iou) == ("ok", 1.0)
    [done] = stage(suppression=SuppressConfig(per_class=True))([sample("dog", "cat")])
    assert [mask.area for mask in done.masks or ()] == [90, 70, 50]


def test_negative_words_thresholds_and_a_second_detector() -> None:
    [done] = stage(rules={"negative": ("shadow",)}, negative=("shadow",))([sample("dog", "cat")])
    assert (done.boxes or Boxes()).labels == ("cat",)
    assert [tag.tag for tag in done.tags] == ["dog", "cat"]
    [done] = stage(rules={"thresholds": {"cat": 0.8}, "box_threshold": 0.4})([sample("dog", "cat")])
    assert (done.boxes or Boxes()).labels == ("shadow", "dog")
    second = Detector(boxes(("cat", 0.1, LEFT)))
    [done] = stage(rules={"second": second})([sample("cat")])
    assert (done.boxes or Boxes()).labels == ("cat",)
    assert (done.boxes or Boxes()).xyxy.tolist() == [list(map(float, SHIFTED))]


def test_limits_of_masks_take_their_boxes_along() -> None:
    [done] = stage(limits=MaskLimits(max_area=80))([sample("dog", "cat")])
    assert [mask.area for mask in done.masks or ()] == [70]
    assert (done.boxes or Boxes()).labels == ("cat",)


def test_an_image_without_tags_is_not_looked_at_and_empty() -> None:
    [done] = stage()([sample()])
    assert to_record(done).status == "empty"


def test_given_boxes_have_no_segmenter() -> None:
    [done] = stage()([sample("dog", regions=(GivenRegion("dog", (0, 0, 5, 5)),))])
    assert done.error is not None
    assert "no segmenter is loaded" in done.error.message


@pytest.mark.parametrize("index", [0, 3])
def test_choices_that_the_rules_leave_count_among_these(index: int) -> None:
    """`choose` sees the boxes above their thresholds, and its numbers are of those."""
    rules = MaskDetectorRules(MaskDetector(FOUND), box_threshold=0.4, thresholds={"none": 0.0})
    seen: list[tuple[str, ...]] = []

    def choose(number: int, found: Boxes) -> list[int]:
        seen.append(found.labels)
        return [len(found.labels) - 1 - index] if index < len(found.labels) else []

    [found] = rules.detect_masks([np.zeros((24, 32, 3), np.uint8)], [["cat"]], choose)
    assert seen == [("dog", "cat", "shadow")]
    assert found.boxes.labels == (("shadow",) if index == 0 else ())
