"""Two data sets beside each other: which images they share, and how far their regions agree."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from pad_pipeline.errors import UserError
from pad_pipeline.view.compare_masks import add_mask_overlaps
from pad_pipeline.view.index import LIMITS
from pad_pipeline.view.queries import Index, Row
from pad_pipeline.view.source import DataSet

Show = Literal["differing", "all", "same"]
By = Literal["boxes", "masks"]
SAME_IOU = 0.8
"""Regions of one tag are the same from this intersection over union on, by default."""
_KEPT_OPEN = 2
"""Data sets and comparisons."""

_PAIRS = """
CREATE TEMP TABLE pairs AS
    WITH here AS (SELECT position, image_id, status FROM a.images),
    there AS (
        SELECT image_id, min(position) AS position, first(status ORDER BY position) AS status
        FROM b.images GROUP BY image_id
    ),
    same_path AS (SELECT here.position AS here, there.position AS there FROM here JOIN there
        USING (image_id)),
    -- The rest by the file's name alone, where both have one of it: COCO's have no folders.
    named_here AS (SELECT parse_filename(image_id) AS name, any_value(position) AS here FROM here
        WHERE position NOT IN (SELECT here FROM same_path) GROUP BY 1 HAVING count(*) = 1),
    named_there AS (SELECT parse_filename(image_id) AS name, any_value(position) AS there FROM there
        WHERE position NOT IN (SELECT there FROM same_path) GROUP BY 1 HAVING count(*) = 1),
    found AS (FROM same_path UNION ALL
        SELECT here, there FROM named_here JOIN named_there USING (name))
    SELECT found.here, found.there, h.status <> t.status AS status_differs
    FROM found JOIN here h ON h.position = found.here JOIN there t ON t.position = found.there
    ORDER BY found.here;
CREATE TEMP TABLE one AS
    SELECT here, number, tag, x0::DOUBLE AS x0, y0::DOUBLE AS y0, x1::DOUBLE AS x1,
        y1::DOUBLE AS y1
    FROM a.regions JOIN a.tag_names USING (tag_id) JOIN pairs ON here = position;
CREATE TEMP TABLE two AS
    SELECT here, number, tag, x0::DOUBLE AS x0, y0::DOUBLE AS y0, x1::DOUBLE AS x1,
        y1::DOUBLE AS y1
    FROM b.regions JOIN b.tag_names USING (tag_id) JOIN pairs ON there = position;
CREATE TEMP TABLE box_overlaps AS
    SELECT here, one, two, (shared / (total - shared))::FLOAT AS iou FROM (
        SELECT one.here, one.number AS one, two.number AS two,
            greatest(least(one.x1, two.x1) - greatest(one.x0, two.x0), 0)
                * greatest(least(one.y1, two.y1) - greatest(one.y0, two.y0), 0) AS shared,
            (one.x1 - one.x0) * (one.y1 - one.y0) + (two.x1 - two.x0) * (two.y1 - two.y0) AS total
        FROM one JOIN two USING (here, tag)
    ) WHERE shared > 0;
"""
_BEST = """
CREATE OR REPLACE TEMP TABLE best_{by} AS
    SELECT one.here, 1::TINYINT AS side, number, coalesce(max(iou), 0)::FLOAT AS iou
    FROM one LEFT JOIN {overlaps} o ON o.here = one.here AND o.one = one.number
    GROUP BY one.here, number
    UNION ALL
    SELECT two.here, 2::TINYINT, number, coalesce(max(iou), 0)::FLOAT
    FROM two LEFT JOIN {overlaps} o ON o.here = two.here AND o.two = two.number
    GROUP BY two.here, number
    ORDER BY 1, 2, 3;
CREATE OR REPLACE TEMP TABLE agreement_{by} AS
    SELECT pairs.here, there,
        CASE WHEN status_differs THEN -1 ELSE coalesce(least_iou, 1) END::FLOAT AS iou
    FROM pairs LEFT JOIN (SELECT here, min(iou) AS least_iou FROM best_{by} GROUP BY here) b
        ON b.here = pairs.here
    ORDER BY pairs.here;
"""
"""Of each region the best IoU with one of its tag, and of each image the least of these: from
which IoU on they agree is a comparison with these, whatever the page asks for."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When two regions of a tag are the same: by boxes or masks, from which IoU on."""

    by: By = "boxes"
    iou: float = SAME_IOU


@dataclass(frozen=True, slots=True)
class Totals:
    """How many images both have and differ in, and how many only one has."""

    shared: int
    differing: int
    only_here: int
    only_there: int
    regions_only_here: int
    regions_only_there: int


class Comparison:
    """Two indexes joined by image; made once, then read page by page, at any IoU."""

    def __init__(self, here: DataSet, there: DataSet) -> None:
        self.here: Index = here.index
        self.there: Index = there.index
        self.num_unreadable = 0
        """Pairs with a mask that cannot be read; known once masks are compared."""
        self._folders = (here.folder, there.folder)
        self._lock = threading.Lock()
        self._has_masks = False
        spilled = str(self.here.path.with_suffix(".compare"))
        self._con = duckdb.connect(config={**LIMITS, "temp_directory": spilled})
        self._con.execute("SET enable_progress_bar = false")
        for name, index in (("a", self.here), ("b", self.there)):
            self._con.execute(f"ATTACH '{_quoted(index.path)}' AS {name} (READ_ONLY)")
        self._con.execute(_PAIRS)
        self._con.execute(_BEST.format(by="boxes", overlaps="box_overlaps"))

    def _prepare(self, rule: Rule) -> None:
        """The masks are read once they are asked for: that takes far longer than the boxes."""
        if rule.by == "masks" and not self._has_masks:
            self.num_unreadable = add_mask_overlaps(self._con, *self._folders)
            self._con.execute(_BEST.format(by="masks", overlaps="mask_overlaps"))
            self._has_masks = True

    def totals(self, rule: Rule) -> Totals:
        """What agrees under a rule."""
        [(shared, differing)] = self._rows(
            rule,
            f"SELECT count(*), count(*) FILTER (WHERE iou < ?::FLOAT) FROM agreement_{rule.by}",
            [rule.iou],
        )
        unmatched: dict[int, int] = dict(
            self._rows(
                rule,
                f"SELECT side, count(*) FROM best_{rule.by} WHERE iou < ?::FLOAT GROUP BY 1",
                [rule.iou],
            )
        )
        return Totals(
            shared=shared,
            differing=differing,
            only_here=self.here.stats.num_images - shared,
            only_there=self.there.stats.num_images - shared,
            regions_only_here=unmatched.get(1, 0),
            regions_only_there=unmatched.get(2, 0),
        )

    def pairs(self, rule: Rule, show: Show, limit: int, offset: int) -> list[tuple[Row, Row]]:
        """The images of a page, each as the rows of both data sets."""
        condition = {"all": "true", "differing": "iou < ?1::FLOAT", "same": "iou >= ?1::FLOAT"}
        found = self._rows(
            rule,
            f"SELECT here, there FROM agreement_{rule.by} WHERE {condition[show]} AND ?1 >= 0 "
            "ORDER BY here LIMIT ?2 OFFSET ?3",
            [rule.iou, limit, offset],
        )
        return self._both(found)

    def pair(self, image_id: str) -> tuple[Row, Row] | None:
        """One image of this data set with that of the other; None where not both have it."""
        here = self.here.find(image_id)
        if here is None:
            return None
        found = self._rows(
            Rule(), "SELECT here, there FROM pairs WHERE here = ?", [here["position"]]
        )
        return self._both(found)[0] if found else None

    def _both(self, found: list[tuple[Any, ...]]) -> list[tuple[Row, Row]]:
        here = self.here.at([row[0] for row in found])
        there = self.there.at([row[1] for row in found])
        return list(zip(here, there, strict=True))

    def unmatched(self, rule: Rule, positions: list[int]) -> dict[int, tuple[set[int], set[int]]]:
        """By position here: numbers of the regions that only this, and only the other, has."""
        found: dict[int, tuple[set[int], set[int]]] = {p: (set(), set()) for p in positions}
        if positions:
            marks = ", ".join("?" * len(positions))
            for here, side, number in self._rows(
                rule,
                f"SELECT here, side, number FROM best_{rule.by} "
                f"WHERE iou < ?::FLOAT AND here IN ({marks})",
                [rule.iou, *positions],
            ):
                found[here][side - 1].add(number)
        return found

    def close(self) -> None:
        """Let go of both files."""
        self._con.close()

    def _rows(self, rule: Rule, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        with self._lock:  # its tables are temporary, so a cursor of its own would not see them
            self._prepare(rule)
            return self._con.execute(sql, values).fetchall()


class Comparisons:
    """The data sets that one is compared with, and how it compares; usable from any thread.

    The few that were compared last are kept open.
    """

    def __init__(self) -> None:
        self._data_sets: dict[str, DataSet] = {}
        self._comparisons: dict[tuple[Path, Path], Comparison] = {}
        self._lock = threading.Lock()

    def compare(self, here: DataSet, other: str) -> tuple[DataSet, Comparison]:
        """The data set or COCO file at `other`, and how it compares with `here`.

        Raises `UserError` where there is none. The first comparison of two takes a while.
        """
        with self._lock:  # the second request waits for the first to make the index
            if other not in self._data_sets:
                while len(self._data_sets) >= _KEPT_OPEN:
                    self._data_sets.pop(next(iter(self._data_sets))).index.close()
                self._data_sets[other] = DataSet(other)
            data = self._data_sets[other]
            key = (here.index.path, data.index.path)
            if key not in self._comparisons:
                while len(self._comparisons) >= _KEPT_OPEN:
                    self._comparisons.pop(next(iter(self._comparisons))).close()
                self._comparisons[key] = Comparison(here, data)
            return data, self._comparisons[key]

    def opened(self, other: str) -> DataSet:
        """A data set that was compared before: a picture's address alone has nothing read."""
        if (found := self._data_sets.get(other)) is None:
            raise UserError("the comparison was closed since: load its page again")
        return found


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
