"""What the ground-truth pages read from their index; every value is a parameter."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pad_pipeline.view.index import connect
from pad_pipeline.view.queries import Row
from pad_pipeline.view.truth.rules import RULES, Rule

Show = Literal["errors", "missed", "otherwise", "false", "nothing", "wrong", "again", "found"]
SHOWS: tuple[Show, ...] = get_args(Show)
TruthSort = Literal["errors", "score"]
TagSort = Literal["errors", "objects", "AP", "AP50", "missed", "false", "tag"]
TAG_SORTS: tuple[TagSort, ...] = get_args(TagSort)

_OUTCOMES: dict[str, tuple[str, ...]] = {
    "nothing": ("no object",),
    "wrong": ("wrong tag",),
    "again": ("found already",),
    "false": ("no object", "wrong tag", "found already"),
    "found": ("found",),
}
"""Of regions, by what an address shows."""
_COUNTS = "found, wrong, again, nothing, missed, errors"


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which images a list shows: those with such an outcome, and perhaps of one tag.

    `tag` is the region's, but the object's for "missed", "otherwise" (found under another tag) and,
    with `named` as the region's, for "wrong".
    """

    rule: Rule
    show: Show = "errors"
    tag: str = ""
    named: str = ""
    sort: TruthSort = "errors"


@dataclass(frozen=True, slots=True)
class Around:
    """Ids of the images before and after one in a list, and its number from 1; 0 if not in it."""

    previous: str | None
    next: str | None
    number: int


class TruthIndex:
    """One finished index, open to read; usable from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._con = connect(path, read_only=True)
        facts = {row["name"]: json.loads(row["value"]) for row in self._rows("FROM facts", [])}
        self.num_images: int = facts["num_images"]
        self.num_failed: int = facts["num_failed"]
        self.left_out: list[tuple[str, int]] = [(tag, n) for tag, n in facts["left_out"]]
        """Tags of regions that name no category, with the number of their regions."""
        self.rules = RULES if facts["has_masks"] else tuple(r for r in RULES if r.by == "boxes")

    def close(self) -> None:
        """Close the file; the index cannot be used any more."""
        self._con.close()

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        result = self._con.cursor().execute(sql, list(values))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def totals(self, rule: Rule) -> Row:
        """Figures of all tags, the sums of all outcomes, and their precision and recall.

        Figures are of regions of every score, as COCO defines them.
        """
        [figures] = self._rows("FROM figures WHERE rule = ? AND tag IS NULL", [rule.number])
        [sums] = self._rows(
            "SELECT coalesce(sum(objects), 0) AS objects, coalesce(sum(regions), 0) AS regions, "
            "coalesce(sum(found), 0) AS found, coalesce(sum(wrong), 0) AS wrong, "
            "coalesce(sum(again), 0) AS again, coalesce(sum(nothing), 0) AS nothing, "
            "coalesce(sum(missed), 0) AS missed "
            f"FROM {rule.rows_of('tag_counts')} WHERE rule = ?",
            [rule.number],
        )
        [images] = self._rows(
            "SELECT count(*) FILTER (WHERE errors > 0) AS images_with_errors "
            f"FROM {rule.rows_of('image_errors')} WHERE rule = ?",
            [rule.number],
        )
        precision = sums["found"] / sums["regions"] if sums["regions"] else None
        recall = sums["found"] / sums["objects"] if sums["objects"] else None
        return {**figures, **sums, **images, "precision": precision, "recall": recall}

    def tags(
        self, rule: Rule, words: str, sort: TagSort, limit: int, offset: int
    ) -> tuple[list[Row], int]:
        """Tags whose name holds `words`, with figures and counts; and how many there are."""
        order = {
            "errors": "missed + otherwise + wrong + again + nothing DESC",
            "objects": "objects DESC",
            "AP": "AP NULLS LAST",
            "AP50": "AP50 NULLS LAST",
            "missed": "missed DESC",
            "false": "wrong + again + nothing DESC",
            "tag": "tag",
        }[sort]
        found = self._rows(
            "SELECT c.*, f.AP, f.AP50, f.AP75, f.AR, f.precisions, count(*) OVER () AS total "
            f"FROM {rule.rows_of('tag_counts')} c LEFT JOIN figures f USING (rule, tag) "
            f"WHERE rule = ? AND contains(lower(tag), ?) ORDER BY {order}, tag LIMIT ? OFFSET ?",
            [rule.number, words.lower(), limit, offset],
        )
        return found, found[0]["total"] if found else 0

    def confusions(self, rule: Rule, limit: int) -> list[Row]:
        """The most frequent: objects of `tag` that a region has under another name, `named`."""
        return self._rows(
            f"SELECT tag, named, number FROM {rule.rows_of('confusions')} WHERE rule = ? "
            "ORDER BY number DESC, tag, named LIMIT ?",
            [rule.number, limit],
        )

    def most_confused(self, rule: Rule, limit: int) -> list[Row]:
        """Counts of the tags that are taken for others most often, then of those with mistakes."""
        return self._rows(
            f"WITH confused AS (FROM {rule.rows_of('confusions')}), "
            "sides AS (SELECT rule, tag, number FROM confused UNION ALL "
            "SELECT rule, named, number FROM confused), "
            "involved AS (SELECT rule, tag, sum(number) AS number FROM sides GROUP BY ALL) "
            f"SELECT c.* FROM {rule.rows_of('tag_counts')} c "
            "LEFT JOIN involved i USING (rule, tag) WHERE c.rule = ? "
            "ORDER BY coalesce(i.number, 0) DESC, missed + nothing + again DESC, tag LIMIT ?",
            [rule.number, limit],
        )

    def confusions_of(self, rule: Rule, tags: Sequence[str]) -> list[Row]:
        """All confusions among these tags."""
        if not tags:
            return []
        marks = ", ".join("?" * len(tags))
        return self._rows(
            f"SELECT tag, named, number FROM {rule.rows_of('confusions')} WHERE rule = ? "
            f"AND tag IN ({marks}) AND named IN ({marks})",
            [rule.number, *tags, *tags],
        )

    def count(self, chosen: Chosen) -> int:
        """How many images a list has."""
        sql, values = _listed(chosen)
        return self._rows(f"SELECT count(*) AS number FROM ({sql})", values)[0]["number"]

    def images(self, chosen: Chosen, limit: int, offset: int) -> list[Row]:
        """The images of a page of a list: place, image_id, their mistakes, and `number`, how many
        of what is shown they have."""
        sql, values = _listed(chosen)
        return self._rows(
            f"WITH page AS ({sql} ORDER BY {_order(chosen)} LIMIT ? OFFSET ?) "
            f"SELECT place, image_id, page.number, page.score, {_COUNTS} "
            "FROM page JOIN images USING (place) "
            f"JOIN {chosen.rule.rows_of('image_errors')} e USING (place) "
            f"WHERE e.rule = ? ORDER BY {_order(chosen, 'page.')}",
            [*values, limit, offset, chosen.rule.number],
        )

    def around(self, chosen: Chosen, image_id: str) -> Around:
        """What comes before and after an image in a list."""
        sql, values = _listed(chosen)
        found = self._rows(
            f"WITH own AS (SELECT place FROM images WHERE image_id = ?), listed AS ({sql}), "
            f"numbered AS (SELECT place, row_number() OVER w AS nth, lag(place) OVER w AS before, "
            f"lead(place) OVER w AS after FROM listed WINDOW w AS (ORDER BY {_order(chosen)})) "
            "SELECT nth, b.image_id AS previous, a.image_id AS next FROM numbered "
            "JOIN own USING (place) LEFT JOIN images b ON b.place = before "
            "LEFT JOIN images a ON a.place = after",
            [image_id, *values],
        )
        if not found:
            return Around(None, None, 0)
        return Around(found[0]["previous"], found[0]["next"], found[0]["nth"])

    def place_of(self, image_id: str) -> int | None:
        """Where an image of the data set stands in the truth; None where it has none."""
        found = self._rows("SELECT place FROM images WHERE image_id = ?", [image_id])
        return found[0]["place"] if found else None

    def objects(
        self, rule: Rule, places: Sequence[int], *, masks: bool = False
    ) -> dict[int, list[Row]]:
        """The objects of images by place, in the truth's order, each with its outcome."""
        mask = ", mask" if masks else ""
        return self._of_places(
            f"SELECT place, number, o.tag, area, x0, y0, x1, y1{mask}, outcome, region "
            f"FROM objects o JOIN {rule.rows_of('found_objects')} f USING (place, number)",
            rule,
            places,
        )

    def regions(self, rule: Rule, places: Sequence[int]) -> dict[int, list[Row]]:
        """What the regions of images are, by place, in the record's order."""
        return self._of_places(
            "SELECT place, number, tag, score, outcome, object "
            f"FROM {rule.rows_of('found_regions')}",
            rule,
            places,
        )

    def _of_places(self, sql: str, rule: Rule, places: Sequence[int]) -> dict[int, list[Row]]:
        found: dict[int, list[Row]] = {place: [] for place in places}
        if found:
            marks = ", ".join("?" * len(places))
            for row in self._rows(
                f"{sql} WHERE rule = ? AND place IN ({marks}) ORDER BY place, number",
                [rule.number, *places],
            ):
                found[row["place"]].append(row)
        return found


def _order(chosen: Chosen, table: str = "") -> str:
    first = "score DESC NULLS LAST" if chosen.sort == "score" else "number DESC"
    return f"{table}{first}, {table}place"


def _listed(chosen: Chosen) -> tuple[str, list[Any]]:
    """A query for place, number and best score of all images of a list, and its values."""
    rule = chosen.rule.number
    objects, regions = map(chosen.rule.rows_of, ("found_objects", "found_regions"))
    if chosen.show == "errors":
        if not chosen.tag:
            return (
                "SELECT place, errors AS number, NULL::FLOAT AS score "
                f"FROM {chosen.rule.rows_of('image_errors')} WHERE rule = ? AND errors > 0",
                [rule],
            )
        return (
            "SELECT place, count(*) AS number, max(score) AS score FROM ("
            f"SELECT place, NULL::FLOAT AS score FROM {objects} WHERE rule = ? AND tag = ? "
            "AND outcome IN ('missed', 'wrong tag') UNION ALL "
            f"SELECT place, score FROM {regions} WHERE rule = ? AND tag = ? "
            "AND outcome IN ('no object', 'wrong tag', 'found already')) GROUP BY place",
            [rule, chosen.tag, rule, chosen.tag],
        )
    if chosen.show in ("missed", "otherwise"):
        outcome = "missed" if chosen.show == "missed" else "wrong tag"
        where, values = ("AND tag = ?", [chosen.tag]) if chosen.tag else ("", [])
        return (
            f"SELECT place, count(*) AS number, NULL::FLOAT AS score FROM {objects} "
            f"WHERE rule = ? AND outcome = ? {where} GROUP BY place",
            [rule, outcome, *values],
        )
    if chosen.named:
        return (
            f"SELECT o.place, count(*) AS number, max(r.score) AS score FROM {objects} o "
            f"JOIN {regions} r ON r.rule = o.rule AND r.place = o.place AND r.number = o.region "
            "WHERE o.rule = ? AND o.outcome = 'wrong tag' AND o.tag = ? AND r.tag = ? "
            "GROUP BY o.place",
            [rule, chosen.tag, chosen.named],
        )
    outcomes = _OUTCOMES[chosen.show]
    where, values = ("AND tag = ?", [chosen.tag]) if chosen.tag else ("", [])
    marks = ", ".join("?" * len(outcomes))
    return (
        f"SELECT place, count(*) AS number, max(score) AS score FROM {regions} "
        f"WHERE rule = ? AND outcome IN ({marks}) {where} GROUP BY place",
        [rule, *outcomes, *values],
    )
