"""The table of tags against tags: which objects regions have under which name."""

from __future__ import annotations

from dataclasses import dataclass

from pad_pipeline.view.queries import Row
from pad_pipeline.view.truth.queries import TruthIndex
from pad_pipeline.view.truth.rules import Rule

MOST_TAGS = 14


@dataclass(frozen=True, slots=True)
class Cell:
    """How many objects or regions, as a share of the row (0–1), and which images show them.

    `show`, `tag` and `named` are the values of the list's address, `show` empty where there is
    nothing to show.
    """

    number: int
    share: float
    show: str
    tag: str
    named: str


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """A row for the objects of each tag: found under which tag, and, in the last cell, missed.

    `no_object` is the row of regions where there is no object, tag by tag.
    """

    tags: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    no_object: tuple[Cell, ...]


def confusion_matrix(index: TruthIndex, rule: Rule) -> ConfusionMatrix:
    """Of the tags that are confused most, then of those with most mistakes, by name."""
    counts = index.most_confused(rule, MOST_TAGS)
    tags = tuple(sorted(row["tag"] for row in counts))
    of_tag: dict[str, Row] = {row["tag"]: row for row in counts}
    pairs = {(row["tag"], row["named"]): row["number"] for row in index.confusions_of(rule, tags)}
    rows = []
    for tag in tags:
        total = max(of_tag[tag]["objects"], 1)
        cells = [
            _cell(of_tag[tag]["found"], total, "found", tag)
            if named == tag
            else _cell(pairs.get((tag, named), 0), total, "wrong", tag, named)
            for named in tags
        ]
        rows.append((*cells, _cell(of_tag[tag]["missed"], total, "missed", tag)))
    total = max(sum(of_tag[tag]["nothing"] for tag in tags), 1)
    no_object = tuple(_cell(of_tag[tag]["nothing"], total, "nothing", tag) for tag in tags)
    return ConfusionMatrix(tags, tuple(rows), no_object)


def _cell(number: int, total: int, show: str, tag: str, named: str = "") -> Cell:
    return Cell(number, number / total, show if number else "", tag, named)
