"""Questions about a scene with their answers: where things are, colours, kinds, numbers, sides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from pad_pipeline.scenes.captions import noun_phrase
from pad_pipeline.scenes.generator import KINDS, Scene
from pad_pipeline.scenes.kinds import SPECS

Topic = Literal["where", "colour", "kind", "count", "side", "yes or no"]
TOPICS: tuple[Topic, ...] = get_args(Topic)

BOX_STEP = 0.05
"""Boxes are written in multiples of this share of the padded square's side."""

_NUMBERS = ("none", "one", "two", "three", "four", "five")
_SIDES = ((0.4, "left"), (0.6, "middle"), (1.0, "right"))


class Located(Protocol):
    """What a question needs to know of a thing: kind, colour, box in pixels."""

    @property
    def kind(self) -> str: ...
    @property
    def variant(self) -> str: ...
    @property
    def bbox_xyxy(self) -> tuple[float, float, float, float]: ...


@dataclass(frozen=True, slots=True)
class SceneQuestion:
    """A question with its answer; of "where" also the box in pixels, and the image's size."""

    topic: Topic
    question: str
    answer: str
    bbox_xyxy: tuple[float, float, float, float] | None = None
    size: tuple[int, int] | None = None
    """Width and height."""


def draw_questions(scene: Scene, rng: np.random.Generator) -> list[SceneQuestion]:
    """The questions of `ask` about a drawn scene."""
    height, width = scene.image.shape[:2]
    return ask(scene.things, (width, height), rng)


def ask(
    things: Sequence[Located], size: tuple[int, int], rng: np.random.Generator
) -> list[SceneQuestion]:
    """One question of every topic about each thing of an image of `size`, in random order.

    Questions that have no single answer are left out: a thing that stands twice in the same colour
    has no place, things of one kind in several colours have no colour and no side. Half of the
    "yes or no" questions are to be denied.
    """
    width, height = size
    kinds = Counter(thing.kind for thing in things)
    looks = Counter((thing.kind, thing.variant) for thing in things)
    found: list[SceneQuestion] = []
    for thing in things:
        is_only = kinds[thing.kind] == 1
        if looks[thing.kind, thing.variant] == 1:
            name = thing.kind
            if not is_only or rng.random() < 0.5:
                name = f"{thing.variant} {name}"
            box = box_text(thing.bbox_xyxy, width, height)
            found.append(
                SceneQuestion(
                    "where", f"Where is the {name}?", box, thing.bbox_xyxy, (width, height)
                )
            )
            found.append(SceneQuestion("kind", f"What is at {box}?", thing.kind))
        if is_only:
            asked = f"What colour is the {thing.kind}?"
            found.append(SceneQuestion("colour", asked, thing.variant))
            centre = (thing.bbox_xyxy[0] + thing.bbox_xyxy[2]) / 2 / width
            side = next(name for end, name in _SIDES if centre <= end)
            found.append(SceneQuestion("side", f"On which side is the {thing.kind}?", side))
        found.append(_how_many(thing.kind, kinds))
        found.append(_is_there(thing, looks, rng))
    return [found[place] for place in rng.permutation(len(found))]


@dataclass(frozen=True, slots=True)
class Most:
    """How many questions a conversation has at the most: where, yes or no, and the others."""

    where: int = 3
    yes_or_no: int = 3
    others: int = 3


def choose(
    asked: Sequence[SceneQuestion], rng: np.random.Generator, most: Most = Most()
) -> list[SceneQuestion]:
    """Some of the questions for one conversation, as many as there are up to `most`, mixed."""
    chosen: list[SceneQuestion] = []
    for topics, number in (
        (("where",), most.where),
        (("yes or no",), most.yes_or_no),
        (("colour", "kind", "count", "side"), most.others),
    ):
        of_kind = [question for question in asked if question.topic in topics]
        chosen += [of_kind[place] for place in rng.permutation(len(of_kind))[:number]]
    return [chosen[place] for place in rng.permutation(len(chosen))]


def box_text(bbox_xyxy: Sequence[float], width: int, height: int) -> str:
    """A box in pixels as `[x0, y0, x1, y1]`, shares of the square that LLaVA pads an image to."""
    shares = on_padded_square(bbox_xyxy, width, height)
    return "[" + ", ".join(f"{round(share / BOX_STEP) * BOX_STEP:.2f}" for share in shares) + "]"


def on_padded_square(bbox_xyxy: Sequence[float], width: int, height: int) -> list[float]:
    """A box in pixels as shares of the side of the square that LLaVA pads an image to."""
    side = max(width, height)
    shifts = ((side - width) / 2, (side - height) / 2) * 2
    return [(edge + shift) / side for edge, shift in zip(bbox_xyxy, shifts, strict=True)]


def box_numbers() -> list[str]:
    """All numbers that occur in boxes, in rising order."""
    return [f"{step * BOX_STEP:.2f}" for step in range(round(1 / BOX_STEP) + 1)]


def _how_many(kind: str, kinds: Counter[str]) -> SceneQuestion:
    plural = SPECS[kind].plural or f"{kind}s"
    return SceneQuestion("count", f"How many {plural} are there?", _NUMBERS[kinds[kind]])


def _is_there(
    thing: Located, looks: Counter[tuple[str, str]], rng: np.random.Generator
) -> SceneQuestion:
    """Whether there is such a thing, or one that is not: of another colour or another kind."""
    kind, variant, answer = thing.kind, thing.variant, "Yes"
    if rng.random() < 0.5:
        absent = [
            (other, colour)
            for other in KINDS
            for colour in SPECS[other].variants
            if not looks[other, colour]
        ]
        alike = [look for look in absent if look[0] == kind]
        if alike and rng.random() < 0.5:
            absent = alike
        kind, variant = absent[int(rng.integers(len(absent)))]
        answer = "No"
    asked = f"Is there {noun_phrase(kind, variant, 1, trait=False)}?"
    return SceneQuestion("yes or no", asked, answer)
