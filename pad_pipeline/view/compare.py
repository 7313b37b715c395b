"""Two data sets beside each other: which images they share, and which regions only one has."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import duckdb

from pad_pipeline.errors import UserError
from pad_pipeline.view.index import LIMITS
from pad_pipeline.view.queries import Index, Row
from pad_pipeline.view.source import DataSet

Show = Literal["differing", "all", "same"]
SAME_IOU = 0.8
"""Two boxes of one tag are the same region from this intersection over union on."""
_KEPT_OPEN = 2
"""Data sets and comparisons."""

_PAIRS = f"""
CREATE TEMP TABLE pairs AS
    SELECT a.position AS here, b.position AS there, a.status <> b.status AS differs
    FROM a.images a JOIN (
        SELECT image_id, min(position) AS position, any_value(status) AS status
        FROM b.images GROUP BY image_id
    ) b USING (image_id)
    ORDER BY here;
CREATE TEMP TABLE one AS
    SELECT here, number, tag, x0, y0, x1, y1
    FROM a.regions JOIN a.tag_names USING (tag_id) JOIN pairs ON here = position;
CREATE TEMP TABLE two AS
    SELECT here, number, tag, x0, y0, x1, y1
    FROM b.regions JOIN b.tag_names USING (tag_id) JOIN pairs ON there = position;
CREATE TEMP TABLE matched AS
    SELECT here, one, two FROM (
        SELECT one.here, one.number AS one, two.number AS two,
            greatest(least(one.x1, two.x1) - greatest(one.x0, two.x0), 0)
                * greatest(least(one.y1, two.y1) - greatest(one.y0, two.y0), 0) AS shared,
            (one.x1 - one.x0) * (one.y1 - one.y0) + (two.x1 - two.x0) * (two.y1 - two.y0) AS total
        FROM one JOIN two USING (here, tag)
    ) WHERE shared >= {SAME_IOU} * (total - shared);
CREATE TEMP TABLE unmatched AS
    SELECT here, 1 AS side, number FROM one
        WHERE (here, number) NOT IN (SELECT (here, one) FROM matched)
    UNION ALL
    SELECT here, 2, number FROM two WHERE (here, number) NOT IN (SELECT (here, two) FROM matched);
UPDATE pairs SET differs = true WHERE here IN (SELECT here FROM unmatched);
DROP TABLE one;
DROP TABLE two;
DROP TABLE matched;
"""


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
    """Two indexes joined by image id; made once, then read page by page."""

    def __init__(self, here: Index, there: Index) -> None:
        self.here, self.there = here, there
        self._lock = threading.Lock()
        spilled = str(here.path.with_suffix(".compare"))
        self._con = duckdb.connect(config={**LIMITS, "temp_directory": spilled})
        self._con.execute("SET enable_progress_bar = false")
        for name, index in (("a", here), ("b", there)):
            self._con.execute(f"ATTACH '{_quoted(index.path)}' AS {name} (READ_ONLY)")
        self._con.execute(_PAIRS)
        shared, differing = self._row("SELECT count(*), count(*) FILTER (WHERE differs) FROM pairs")
        unmatched: dict[int, int] = dict(
            self._con.execute("SELECT side, count(*) FROM unmatched GROUP BY 1").fetchall()
        )
        self.totals = Totals(
            shared=shared,
            differing=differing,
            only_here=here.stats.num_images - shared,
            only_there=there.stats.num_images - shared,
            regions_only_here=unmatched.get(1, 0),
            regions_only_there=unmatched.get(2, 0),
        )

    def count(self, show: Show) -> int:
        """How many shared images a page of `show` goes through."""
        totals = self.totals
        return {
            "all": totals.shared,
            "differing": totals.differing,
            "same": totals.shared - totals.differing,
        }[show]

    def pairs(self, show: Show, limit: int, offset: int) -> list[tuple[Row, Row]]:
        """The images of a page, each as the rows of both data sets."""
        condition = {"all": "true", "differing": "differs", "same": "NOT differs"}[show]
        found = self._rows(
            f"SELECT here, there FROM pairs WHERE {condition} ORDER BY here LIMIT ? OFFSET ?",
            [limit, offset],
        )
        here = self.here.at([row[0] for row in found])
        there = self.there.at([row[1] for row in found])
        return list(zip(here, there, strict=True))

    def unmatched(self, positions: list[int]) -> dict[int, tuple[set[int], set[int]]]:
        """By position here: numbers of the regions that only this, and only the other, has."""
        found: dict[int, tuple[set[int], set[int]]] = {p: (set(), set()) for p in positions}
        if positions:
            marks = ", ".join("?" * len(positions))
            for here, side, number in self._rows(
                f"SELECT here, side, number FROM unmatched WHERE here IN ({marks})", positions
            ):
                found[here][side - 1].add(number)
        return found

    def close(self) -> None:
        """Let go of both files."""
        self._con.close()

    def _rows(self, sql: str, values: list[Any]) -> list[tuple[Any, ...]]:
        with self._lock:  # its tables are temporary, so a cursor of its own would not see them
            return self._con.execute(sql, values).fetchall()

    def _row(self, sql: str) -> tuple[Any, ...]:
        [row] = self._rows(sql, [])
        return row


class Comparisons:
    """The data sets that one is compared with, and how it compares; usable from any thread.

    The few that were compared last are kept open.
    """

    def __init__(self) -> None:
        self._data_sets: dict[str, DataSet] = {}
        self._comparisons: dict[tuple[Path, Path], Comparison] = {}
        self._lock = threading.Lock()

    def compare(self, here: DataSet, other: str) -> tuple[DataSet, Comparison]:
        """The data set at `other`, folder or URL, and how it compares with `here`.

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
                self._comparisons[key] = Comparison(here.index, data.index)
            return data, self._comparisons[key]

    def opened(self, other: str) -> DataSet:
        """A data set that was compared before: a picture's address alone has nothing read."""
        if (found := self._data_sets.get(other)) is None:
            raise UserError("the comparison was closed since: load its page again")
        return found


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
