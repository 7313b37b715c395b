"""Referring expressions: Acc@0.5 and mean IoU of boxes written as text, in both frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.scoring.box_answers import (
    Box,
    iou,
    read_first_box,
    read_only_box,
    undo_padding,
)
from pad_pipeline.evaluate.scoring.scores import Scores, mean_metric

HIT = 0.5
FRAMES = ("as_lmms_eval", "padding_undone")
"""How an answer is placed: relative to the image as it is (lmms-eval 0.7.3, very likely the
paper's), or to the square that LLaVA pads it to, on which its training data's boxes lie."""

_READERS: dict[str, Callable[[str], Box | None]] = {"": read_first_box, "strict_": read_only_box}


def score_referring(answers: Sequence[Answer]) -> Scores:
    """Acc@0.5 and mean IoU of N answers, by frame, parsed as lmms-eval does and strictly.

    Each answer's entry has the image's `width` and `height` and the truth in pixels:
    `references` [x0, y0, x1, y1] or `bbox` [x, y, width, height]. An answer that cannot be read has
    an IoU of 0. A hit is an IoU of at least 0.5.
    """
    truths = [_truth(answer) for answer in answers]
    metrics, per_sample = {}, {}
    for prefix, read in _READERS.items():
        boxes = [read(answer.text) for answer in answers]
        for frame in FRAMES:
            ious = np.array(
                [
                    0.0 if box is None else _iou_in(frame, box, truth, width, height)
                    for box, (truth, width, height) in zip(boxes, truths, strict=True)
                ]
            )
            per_sample[f"{prefix}iou/{frame}"] = ious
            metrics[f"{prefix}Acc@0.5/{frame}"] = mean_metric(ious >= HIT)
            metrics[f"{prefix}mIoU/{frame}"] = mean_metric(ious)
        metrics[f"{prefix}parsed"] = mean_metric([box is not None for box in boxes])
    return Scores(
        main=f"iou/{FRAMES[0]}",
        metrics=metrics,
        per_sample=per_sample,
        unread=tuple(
            place for place, answer in enumerate(answers) if read_first_box(answer.text) is None
        ),
    )


def _iou_in(frame: str, box: Box, truth: Box, width: int, height: int) -> float:
    if frame == "padding_undone":
        box = undo_padding(box, width, height)
    return iou(box, truth)


def _truth(answer: Answer) -> tuple[Box, int, int]:
    """(box relative to the image, width, height)."""
    width, height = (_pixels(answer, name) for name in ("width", "height"))
    if answer.entry.get("references") is not None:
        x0, y0, x1, y1 = _four(answer, "references", "[x0, y0, x1, y1] in pixels")
    else:
        x0, y0, across, down = _four(answer, "bbox", "[x, y, width, height] in pixels")
        x1, y1 = x0 + across, y0 + down
    if not (x0 < x1 and y0 < y1):
        name = "references" if answer.entry.get("references") is not None else "bbox"
        raise answer.wrong(name, "a box with an area")
    return (x0 / width, y0 / height, x1 / width, y1 / height), width, height


def _pixels(answer: Answer, name: str) -> int:
    value = answer.get(name, "boxes need the size of the image in pixels")
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise answer.wrong(name, "a number of pixels")
    return value


def _four(answer: Answer, name: str, expected: str) -> list[float]:
    value = answer.get(name, f"expected references or bbox with the true box, {expected}")
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if (
        not isinstance(value, list)
        or len(value) != 4
        or not all(isinstance(n, int | float) and not isinstance(n, bool) for n in value)
        or not all(np.isfinite(value))
    ):
        raise answer.wrong(name, expected)
    return [float(number) for number in value]
