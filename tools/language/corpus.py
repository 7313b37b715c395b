"""Text about scenes that are laid out but not drawn: captions, plain sentences, conversations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pad_pipeline.scenes.captions import Placed, describe, noun_phrase
from pad_pipeline.scenes.generator import KINDS
from pad_pipeline.scenes.kinds import SPECS

PLACES = (
    "on a green meadow",
    "on a sandy beach",
    "on the sea floor",
    "in a sandy desert",
    "in a snowy land",
    "on a dark night",
    "in a room with striped wallpaper",
    "in a room with dotted wallpaper",
)
"""Where scenes are, in the words of `scenes.backgrounds`."""

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)

SIZES = ((208, 232), (224, 224), (192, 256), (288, 168), (256, 192))
"""Width and height of the images that scenes are drawn in."""

_COUNTS = (0.10, 0.22, 0.30, 0.24, 0.14)  # of 1 to 5 things, as the generator has them
_CAPTION_REQUESTS = (
    "Describe the image.",
    "What do you see in this image?",
    "What is in the picture?",
    "Give a brief description of the image.",
    "Write a caption for this picture.",
)
_SENTENCES = (
    "There is {a} in the picture.",
    "I can see {a} here.",
    "This is {a}.",
    "Look, {a} {place}.",
    "The {kind} {verb} {place}.",
    "Where is the {kind}? It is {place}.",
    "The picture shows {a} and {b}.",
    "One is {a}, the other is {b}.",
    "A {kind} can be {colours}.",
)


@dataclass(frozen=True, slots=True)
class Layout:
    """Things with their places in a scene that nobody draws."""

    things: tuple[Placed, ...]
    place: str


def lay_out(rng: np.random.Generator, counts: Sequence[float] = _COUNTS) -> Layout:
    """A scene's things by the generator's odds, put down at random within their zones.

    `counts` are the odds of 1, 2, … things.
    """
    count = 1 + int(rng.choice(len(counts), p=counts))
    kinds = [KINDS[k] for k in rng.integers(len(KINDS), size=count)]
    if count > 1 and rng.random() < 0.15:
        kinds[-1] = kinds[0]
    kinds.sort(key=lambda kind: SPECS[kind].zone[0])
    things = []
    for k, kind in enumerate(kinds):
        variants = tuple(SPECS[kind].variants)
        low, high = SPECS[kind].zone
        hidden = frozenset({k + 1}) if k + 1 < count and rng.random() < 0.15 else frozenset()
        things.append(
            Placed(
                kind,
                variants[int(rng.integers(len(variants)))],
                float(rng.uniform(0.15, 0.85)),
                float(rng.uniform(low, high)),
                int(rng.uniform(1500, 6000)),
                hidden,
            )
        )
    return Layout(tuple(things), PLACES[int(rng.integers(len(PLACES)))])


@dataclass(frozen=True, slots=True)
class Boxed:
    """A thing of a layout with a box in pixels."""

    kind: str
    variant: str
    bbox_xyxy: tuple[float, float, float, float]


def give_boxes(
    layout: Layout, rng: np.random.Generator
) -> tuple[tuple[int, int], tuple[Boxed, ...]]:
    """An image's size, and the layout's things with boxes of the sizes that drawn things have."""
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    found = []
    for thing in layout.things:
        sides = max(width, height) * 0.29 * np.exp(rng.normal(0, 0.27, 2))
        (w, h), x, y = np.minimum(sides, (width, height)), thing.x * width, thing.y * height
        left = float(np.clip(x - w / 2, 0, width - w))
        top = float(np.clip(y - h / 2, 0, height - h))
        box = (left, top, left + float(w), top + float(h))
        found.append(Boxed(thing.kind, thing.variant, box))
    return (width, height), tuple(found)


def caption(layout: Layout, rng: np.random.Generator) -> str:
    """The sentence that a drawn scene of this layout could have."""
    return describe(layout.things, layout.place, rng)


def sentence(layout: Layout, rng: np.random.Generator) -> str:
    """A plain sentence in which the kinds and their colours occur."""
    thing, other = layout.things[0], layout.things[-1]
    template = _SENTENCES[int(rng.integers(len(_SENTENCES)))]
    trait = bool(rng.random() < 0.3)
    return template.format(
        a=noun_phrase(thing.kind, thing.variant, 1, trait),
        b=noun_phrase(other.kind, other.variant, 1, False),
        kind=thing.kind,
        verb=SPECS[thing.kind].verb[0],
        place=layout.place,
        colours=_listed(list(SPECS[thing.kind].variants), "or"),
    )


def exchange(layout: Layout, rng: np.random.Generator) -> tuple[str, str]:
    """A question about the layout and its answer."""
    thing = layout.things[int(rng.integers(len(layout.things)))]
    form = int(rng.integers(5))
    if form == 0:
        return _CAPTION_REQUESTS[int(rng.integers(len(_CAPTION_REQUESTS)))], caption(layout, rng)
    if form == 1:
        colours = [other.variant for other in layout.things if other.kind == thing.kind]
        return f"What colour is the {thing.kind}?", _listed(sorted(set(colours)), "and")
    if form == 2:
        asked = KINDS[int(rng.integers(len(KINDS)))] if rng.random() < 0.5 else thing.kind
        found = any(other.kind == asked for other in layout.things)
        article = "an" if asked[0] in "aeiou" else "a"
        return f"Is there {article} {asked} in the image?", "Yes" if found else "No"
    if form == 3:
        return "Where is this?", f"This is {layout.place}."
    kinds = sorted({other.kind for other in layout.things})
    return "Which things are in the image?", _listed(kinds, "and")


def conversation(layout: Layout, rng: np.random.Generator) -> str:
    """One to three questions and answers in Vicuna's form, each answer ended by `</s>`."""
    turns = [exchange(layout, rng) for _ in range(1 + int(rng.integers(3)))]
    rounds = [f"USER: {question} ASSISTANT: {answer}</s>" for question, answer in turns]
    return f"{SYSTEM} {''.join(rounds)}"


def _listed(parts: Sequence[str], joint: str) -> str:
    if len(parts) == 1:
        return parts[0]
    return ", ".join(parts[:-1]) + f" {joint} {parts[-1]}"
