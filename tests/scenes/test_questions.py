"""Questions about scenes: every answer is true of the scene, and none has two."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from pad_pipeline.evaluate.scoring.box_answers import iou, read_only_box, undo_padding
from pad_pipeline.scenes.generator import Scene, generate_scene
from pad_pipeline.scenes.questions import (
    TOPICS,
    SceneQuestion,
    box_numbers,
    box_text,
    draw_questions,
)


@pytest.fixture(scope="module")
def asked() -> list[tuple[Scene, SceneQuestion]]:
    scenes = [(seed, generate_scene(seed)) for seed in range(20_000_000, 20_000_040)]
    return [
        (scene, question)
        for seed, scene in scenes
        for question in draw_questions(scene, np.random.default_rng(seed))
    ]


def of(asked: list[tuple[Scene, SceneQuestion]], topic: str) -> list[tuple[Scene, SceneQuestion]]:
    found = [pair for pair in asked if pair[1].topic == topic]
    assert len(found) > 40
    return found


def test_the_same_draw_gives_the_same_questions_of_every_topic(asked) -> None:
    assert {question.topic for _, question in asked} == set(TOPICS)
    scene = generate_scene(20_000_000)
    first, again, other = (draw_questions(scene, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first == again != other


def test_where_asks_for_one_thing_and_its_box_is_near(asked) -> None:
    for scene, question in of(asked, "where"):
        name = question.question.removeprefix("Where is the ").removesuffix("?")
        named = [t for t in scene.things if name in (t.kind, f"{t.variant} {t.kind}")]
        assert len(named) == 1
        assert question.bbox_xyxy == named[0].bbox_xyxy
        assert question.size is not None
        width, height = question.size
        box = read_only_box(question.answer)
        assert box is not None
        assert set(re.findall(r"\d\.\d\d", question.answer)) <= set(box_numbers())
        x0, y0, x1, y1 = named[0].bbox_xyxy
        truth = (x0 / width, y0 / height, x1 / width, y1 / height)
        assert iou(undo_padding(box, width, height), truth) > 0.55


def test_boxes_lie_on_the_padded_square() -> None:
    assert box_text((0, 0, 200, 100), 200, 100) == "[0.00, 0.25, 1.00, 0.75]"
    assert box_text((10, 0, 60, 200), 100, 200) == "[0.30, 0.00, 0.55, 1.00]"


def test_short_answers_are_true(asked) -> None:
    numbers = ["none", "one", "two", "three", "four", "five"]
    for scene, question in of(asked, "colour"):
        kind = question.question.removeprefix("What colour is the ").removesuffix("?")
        assert [t.variant for t in scene.things if t.kind == kind] == [question.answer]
    for scene, question in of(asked, "count"):
        assert question.answer in numbers[1:]
        kinds = Counter(thing.kind for thing in scene.things)
        assert numbers.index(question.answer) in kinds.values()
    for scene, question in of(asked, "kind"):
        assert question.answer in scene.tags


def test_half_of_what_is_asked_for_is_not_there(asked) -> None:
    questions = of(asked, "yes or no")
    for scene, question in questions:
        name = re.sub(r"^Is there an? |\?$", "", question.question)
        there = name in {f"{thing.variant} {thing.kind}" for thing in scene.things}
        assert question.answer == ("Yes" if there else "No")
    assert 0.35 < np.mean([question.answer == "No" for _, question in questions]) < 0.65
