"""Captions that say in plain English what is where in a scene."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pad_pipeline.scenes.kinds import SPECS

_NUMBERS = ("no", "one", "two", "three", "four", "five")
_RELATIONS = ("to {} left", "to {} right", "above {}", "below {}", "partly behind {}")


@dataclass(frozen=True, slots=True)
class Placed:
    """What the caption needs to know of a thing: centre as shares of the image, visible area in
    pixels, indices of the things that hide a part of it."""

    kind: str
    variant: str
    x: float
    y: float
    area: int
    hidden_by: frozenset[int]


def noun_phrase(kind: str, variant: str, count: int, trait: bool) -> str:
    """`a striped blue fish`, `an orange fish`, `two red apples`."""
    spec = SPECS[kind]
    words = f"{spec.trait} {variant}" if trait and spec.trait else variant
    if count > 1:
        return f"{_NUMBERS[count]} {words} {spec.plural or kind + 's'}"
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words} {kind}"


def _joined(parts: Sequence[str]) -> str:
    if len(parts) < 3:
        return " and ".join(parts)
    return ", ".join(parts[:-1]) + " and " + parts[-1]


def _relation(group: list[int], anchor: list[int], things: Sequence[Placed]) -> int:
    if any(a in things[g].hidden_by for g in group for a in anchor):
        return 4
    dx = np.mean([things[i].x for i in group]) - np.mean([things[i].x for i in anchor])
    dy = np.mean([things[i].y for i in group]) - np.mean([things[i].y for i in anchor])
    if abs(dx) >= abs(dy):
        return 0 if dx < 0 else 1
    return 2 if dy < 0 else 3


def _third(x: float) -> str:
    return "on the left" if x < 0.4 else "on the right" if x > 0.6 else "in the middle"


def describe(things: Sequence[Placed], place: str, rng: np.random.Generator) -> str:
    """One sentence about 1 to 5 things; the largest is the anchor that the others relate to.

    `place` is where the scene is ("on a green meadow").
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for i, thing in enumerate(things):
        groups.setdefault((thing.kind, thing.variant), []).append(i)
    anchor = max(groups, key=lambda key: sum(things[i].area for i in groups[key]))
    members = groups.pop(anchor)
    many = len(members) > 1
    trait = bool(rng.random() < 0.6)
    subject = noun_phrase(*anchor, len(members), trait)
    verb = SPECS[anchor[0]].verb[many]
    position = "" if many else " " + _third(things[members[0]].x)

    related: dict[int, list[str]] = {}
    for key, group in groups.items():
        phrase = noun_phrase(*key, len(group), trait)
        related.setdefault(_relation(group, members, things), []).append(phrase)
    clauses = []
    for relation in sorted(related):
        possessive = relation < 2
        pronoun = ("their" if many else "its") if possessive else ("them" if many else "it")
        clauses.append(f"{_joined(related[relation])} {_RELATIONS[relation].format(pronoun)}")
    others = f", with {_joined(clauses)}" if clauses else ""
    if rng.random() < 0.5:
        return f"{place[0].upper()}{place[1:]}, {subject} {verb}{position}{others}."
    return f"{subject[0].upper()}{subject[1:]} {verb}{position}{others}, {place}."
