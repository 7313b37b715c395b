"""Boxes in answers: lmms-eval's rule and figures, the padded square, what cannot be read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.scoring.box_answers import (
    iou,
    read_first_box,
    read_only_box,
    undo_padding,
)
from pad_pipeline.evaluate.scoring.referring import score_referring
from tests.evaluate.scoring.answers import answer
from tests.golden_data import golden_dir

GOLDEN = json.loads((golden_dir("eval") / "vqa.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("case", GOLDEN["rec"], ids=lambda case: case["text"] or "empty")
def test_a_box_is_read_and_compared_as_by_lmms_eval(case) -> None:
    box = read_first_box(case["text"]) or (0, 0, 0, 0)
    assert list(box) == case["box"]
    assert iou(box, case["gt"]) == case["iou"]
    assert (iou(box, case["gt"]) >= 0.5) is case["hit@0.5"]


@pytest.mark.parametrize("case", GOLDEN["rec_padding"])
def test_a_perfect_answer_on_the_padded_square_is_perfect_once_that_is_undone(case) -> None:
    padded, truth = case["perfect_answer_padded"], case["gt_original"]
    assert iou(padded, truth) == pytest.approx(case["iou_read_as_original"], abs=1e-12)
    assert undo_padding(padded, *case["size"]) == pytest.approx(truth, abs=1e-12)


@pytest.mark.parametrize(
    ("text", "box"),
    [
        ("[0.1, 0.2, 0.5, 0.6]", (0.1, 0.2, 0.5, 0.6)),
        ("It is at [0,0,1,1].", (0, 0, 1, 1)),
        ("[0.5, 0.6, 0.1, 0.2]", None),  # inside out
        ("[12, 34, 56, 78]", None),  # pixels
        ("[0.1, 0.2, 0.1, 0.6]", None),  # no area
        ("[0.1, 0.2, 0.5, 0.6], [0.3, 0.3, 0.9, 0.9]", None),  # which one?
        ("", None),
    ],
)
def test_the_strict_reader_takes_one_sound_box(text: str, box) -> None:
    assert read_only_box(text) == box


def test_both_frames_and_both_readers_are_reported() -> None:
    padded = {"width": 640, "height": 480, "references": [192, 192, 448, 288]}
    square = {"width": 100, "height": 100, "bbox": [10, 20, 40, 40]}
    scores = score_referring(
        [
            answer(1, "[0.3, 0.425, 0.7, 0.575]", **padded),  # .75 as it is, 1 with padding undone
            answer(2, "[0.1, 0.2, 0.5, 0.6]", **square),
            answer(3, "[0.1, 0.2, 0.5, 0.6] or [0, 0, 1, 1]", **square),
            answer(4, "on the left", **square),
        ]
    )
    values = {name: metric.value for name, metric in scores.metrics.items()}
    assert values["Acc@0.5/as_lmms_eval"] == 0.75
    assert values["mIoU/as_lmms_eval"] == pytest.approx((0.75 + 1 + 1) / 4)
    assert values["mIoU/padding_undone"] == pytest.approx(3 / 4)
    assert values["strict_Acc@0.5/padding_undone"] == 0.5
    assert (values["parsed"], values["strict_parsed"]) == (0.75, 0.5)
    assert scores.unread == (3,)
    assert scores.per_sample["iou/as_lmms_eval"].tolist() == pytest.approx([0.75, 1, 1, 0])


def test_an_iou_of_one_half_is_a_hit() -> None:
    half = {"width": 10, "height": 10, "references": [[0, 0, 5, 10]]}
    scores = score_referring([answer(1, "[0, 0, 1, 1]", **half)])
    assert scores.metrics["Acc@0.5/as_lmms_eval"].value == 1.0
    assert np.isclose(scores.metrics["mIoU/as_lmms_eval"].value, 0.5)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "question 1 of answers.jsonl has no 'width': boxes need the size"),
        ({"width": 0, "height": 5}, "has 'width' '0'; expected a number of pixels"),
        ({"width": 5, "height": 5}, "expected references or bbox with the true box"),
        ({"width": 5, "height": 5, "references": "[0, 0, 1, 1]"}, r"\[x0, y0, x1, y1\] in pixels"),
        ({"width": 5, "height": 5, "bbox": [0, 0, 0, 1]}, "expected a box with an area"),
        ({"width": 5, "height": 5, "bbox": [0, 0, float("nan"), 1]}, "in pixels"),
    ],
)
def test_a_truth_that_is_no_box_is_named(entry, message: str) -> None:
    with pytest.raises(UserError, match=message):
        score_referring([answer(1, "[0, 0, 1, 1]", **entry)])
