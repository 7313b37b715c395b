"""What the pages read from an index, as SQL; every value is a parameter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from pad_pipeline.dataset.stats import Stats
from pad_pipeline.review.marks import ImageMarks
from pad_pipeline.view import summary
from pad_pipeline.view.conditions import CAUSE, where_clause
from pad_pipeline.view.filters import Filters
from pad_pipeline.view.index import Row
from pad_pipeline.view.lasso import CELLS
from pad_pipeline.view.renames import lay_over, open_with_views

_COLUMNS = (
    "position, shard, shard_row, image_id, width, height, caption, status, stage, type, message, "
    "num_regions, max_score, max_area"
)
_SORT_KEYS = {
    "order": "position",
    "score": "coalesce(max_score, -1)",
    "area": "coalesce(max_area, -1)",
    "regions": "num_regions",
    "tag": "coalesce((SELECT alphabetical FROM tags WHERE tag_id = main_tag), 2000000000)",
    "status": "status",
    "caption": "(SELECT place FROM caption_order c WHERE c.position = images.position)",
}
_COUNTS_KEPT, _ROWS_KEPT = 256, 1024
_IDS_TOGETHER = 10_000

TagSort = Literal["regions", "images", "given", "unboxed", "score", "tag"]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Ids of the images before and after one under the same filters, and its number from 1."""

    previous: str | None
    next: str | None
    number: int
    total: int


class Index:
    """One finished index, open to read; usable from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._con = open_with_views(path)
        shards = self.rows("SELECT shard, name, problem FROM shards ORDER BY name", [])
        self.problems: dict[str, str] = {
            row["name"]: row["problem"] for row in shards if row["problem"] is not None
        }
        self.shard_names: dict[int, str] = {row["shard"]: row["name"] for row in shards}
        self.tag_names: dict[int, str] = self._read_tag_names()
        self.stats: Stats = summary.read(self._con.cursor())
        """With the tags of `put_renames`, once there are such."""
        # Not a cache on the method: it would keep every index that was ever open.
        self.count = lru_cache(maxsize=_COUNTS_KEPT)(self._count)
        self.find = lru_cache(maxsize=_ROWS_KEPT)(self._find)
        """The first image of an id."""
        self.regions_at = lru_cache(maxsize=_ROWS_KEPT)(lambda at: self.regions([at])[at])
        """The regions of the image at a position."""

    def put_on_map(self, places: pa.Table) -> None:
        """Keep the images' places on the map: "position" and "cell", see `lasso`."""
        con = self._con.cursor()
        con.register("places_to_keep", places)
        con.execute("CREATE OR REPLACE TABLE places AS FROM places_to_keep")
        con.unregister("places_to_keep")
        self.count.cache_clear()

    def map_points(self, filters: Filters) -> tuple[np.ndarray, np.ndarray]:
        """Cells and main tags (-1 where an image has no region) of the images that pass."""
        where, values = where_clause(filters)
        found = self._con.cursor().execute(
            "SELECT cell, coalesce(main_tag, -1) AS main_tag FROM places "
            f"JOIN images USING (position) WHERE {where} ORDER BY position",
            values,
        )
        columns = found.fetchnumpy()
        return np.asarray(columns["cell"]), np.asarray(columns["main_tag"])

    def nearest_on_map(self, filters: Filters, x: int, y: int, reach: int) -> Row | None:
        """The image that passes and lies nearest to a cell, at most `reach` cells away."""
        where, values = where_clause(filters)
        distance = f"(cell % {CELLS} - ?) ** 2 + (cell // {CELLS} - ?) ** 2"
        found = self.rows(
            f"SELECT position, {distance} AS distance FROM places "
            f"JOIN images USING (position) WHERE {where} "
            f"AND cell // {CELLS} BETWEEN ? AND ? AND distance <= ? "
            "ORDER BY distance, position LIMIT 1",
            [x, y, *values, y - reach, y + reach, reach**2],
        )
        return self.at([found[0]["position"]])[0] if found else None

    def put_marks(self, marked: pa.Table) -> None:
        """Keep which images are marked: "image_id" and "kind", for the filter `review`."""
        con = self._con.cursor()
        con.register("marks_to_keep", marked)
        con.execute(
            "CREATE OR REPLACE TABLE marked AS "
            "SELECT position, kind FROM marks_to_keep JOIN images USING (image_id)"
        )
        con.unregister("marks_to_keep")
        self.count.cache_clear()

    def put_renames(self, images: Mapping[str, ImageMarks]) -> None:
        """Take the tags that regions of these images were given, by image id, for their own.

        Filters, counts and statistics go by them; `regions` and `regions_at` do not.
        """
        con = self._con.cursor()
        lay_over(con, images)
        self.tag_names = self._read_tag_names()
        self.stats = replace(self.stats, **summary.tag_figures(con))
        self.count.cache_clear()

    def iter_ids(self, filters: Filters) -> Iterator[str]:
        """The ids of all images that pass, in the data set's order."""
        where, values = where_clause(filters)
        found = self._con.cursor().execute(
            f"SELECT image_id FROM images WHERE {where} ORDER BY position", values
        )
        while rows := found.fetchmany(_IDS_TOGETHER):
            yield from (row[0] for row in rows)

    def close(self) -> None:
        """Close the file; the index cannot be used any more."""
        self._con.close()

    def rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        """A query's rows."""
        result = self._con.cursor().execute(sql, list(values))
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def images(self, filters: Filters, limit: int, offset: int) -> list[Row]:
        """The images that pass, in the filters' order."""
        where, values = where_clause(filters)
        if filters.sort == "order" and not filters.any:
            return self._slice(filters, limit, offset)
        direction = "DESC" if filters.descending else "ASC"
        # Only the place is sorted; everything else is read for the few rows of the page.
        chosen = self.rows(
            f"SELECT position FROM images WHERE {where} "
            f"ORDER BY {_SORT_KEYS[filters.sort]} {direction}, position LIMIT ? OFFSET ?",
            [*values, limit, offset],
        )
        return self.at([row["position"] for row in chosen])

    def at(self, positions: Sequence[int]) -> list[Row]:
        """The images at these positions, in this order."""
        if not positions:
            return []
        marks = ", ".join("?" * len(positions))
        found = {
            row["position"]: row
            for row in self.rows(
                f"SELECT {_COLUMNS} FROM images WHERE position IN ({marks})", positions
            )
        }
        return [found[position] for position in positions]

    def regions(self, positions: Sequence[int]) -> dict[int, list[Row]]:
        """The regions of images by position, as annotated, without masks, in the record's order."""
        found: dict[int, list[Row]] = {position: [] for position in positions}
        if found:
            marks = ", ".join("?" * len(positions))
            for row in self.rows(
                "SELECT position, number, tag, score, area, predicted_iou, x0, y0, x1, y1 "
                "FROM stored.regions JOIN stored.tag_names USING (tag_id) "
                f"WHERE position IN ({marks}) ORDER BY position, number",
                positions,
            ):
                found[row["position"]].append(row)
        return found

    def tags_of(self, positions: Sequence[int]) -> dict[int, list[Row]]:
        """The tags of images by position, the highest score first."""
        found: dict[int, list[Row]] = {position: [] for position in positions}
        if found:
            marks = ", ".join("?" * len(positions))
            for row in self.rows(
                "SELECT position, tag, score FROM image_tags JOIN tag_names USING (tag_id) "
                f"WHERE position IN ({marks}) ORDER BY position, score DESC, tag",
                positions,
            ):
                found[row["position"]].append(row)
        return found

    def _read_tag_names(self) -> dict[int, str]:
        names = self.rows("SELECT tag_id, tag FROM tag_names", [])
        return {row["tag_id"]: row["tag"] for row in names}

    def _find(self, image_id: str) -> Row | None:
        found = self.rows(
            f"SELECT {_COLUMNS} FROM images WHERE image_id = ? ORDER BY position LIMIT 1",
            [image_id],
        )
        return found[0] if found else None

    def of_ids(self, ids: Sequence[str]) -> list[Row]:
        """The first image of each of these ids that is there, in the data set's order."""
        if not ids:
            return []
        marks = ", ".join("?" * len(ids))
        return self.rows(
            f"SELECT {_COLUMNS} FROM images WHERE image_id IN ({marks}) "
            "QUALIFY row_number() OVER (PARTITION BY image_id ORDER BY position) = 1 "
            "ORDER BY position",
            ids,
        )

    def neighbours(self, filters: Filters, position: int) -> Neighbours:
        """What comes before and after an image; it need not pass the filters itself."""
        where, values = where_clause(filters)
        key = _SORT_KEYS[filters.sort]
        before, order, back = (">", "DESC", "ASC") if filters.descending else ("<", "ASC", "DESC")
        [row] = self.rows(
            f"WITH chosen AS (SELECT position, image_id, {key} AS key FROM images WHERE {where}), "
            f"own AS (SELECT {key} AS key FROM images WHERE position = ?), "
            "marked AS (SELECT chosen.*, "
            f"  chosen.key {before} own.key OR (chosen.key = own.key AND chosen.position < ?) "
            "  AS is_before, chosen.position = ? AS is_own FROM chosen, own) "
            "SELECT count(*) AS total, count(*) FILTER (WHERE is_before) AS number_before, "
            f"first(image_id ORDER BY key {back}, position DESC) FILTER (WHERE is_before) "
            "  AS previous, "
            f"first(image_id ORDER BY key {order}, position) "
            "  FILTER (WHERE NOT is_before AND NOT is_own) AS following FROM marked",
            [*values, position, position, position],
        )
        return Neighbours(
            previous=row["previous"],
            next=row["following"],
            number=row["number_before"] + 1,
            total=row["total"],
        )

    def tags(
        self, words: str, sort: TagSort, *, reverse: bool, limit: int, offset: int
    ) -> tuple[list[Row], int]:
        """Tags whose name holds `words`, with their counts; and how many there are."""
        order = {
            "regions": "num_regions DESC, alphabetical",
            "images": "num_images DESC, alphabetical",
            "given": "num_tagged DESC, alphabetical",
            "unboxed": "num_undetected DESC, alphabetical",
            "score": "mean_score DESC NULLS LAST, alphabetical",
            "tag": "alphabetical",
        }[sort]
        if reverse:
            flipped = {"DESC": "ASC", "DESC NULLS LAST": "ASC NULLS LAST", "": "DESC"}
            first, _, direction = order.partition(",")[0].partition(" ")
            order = f"{first} {flipped[direction]}, alphabetical"
        found = self.rows(
            "SELECT *, count(*) OVER () AS total FROM tags WHERE contains(lower(tag), ?) "
            f"ORDER BY {order} LIMIT ? OFFSET ?",
            [words.lower(), limit, offset],
        )
        return found, found[0]["total"] if found else 0

    def tag(self, name: str) -> Row | None:
        """The counts of one tag."""
        found = self.rows("SELECT * FROM tags WHERE tag = ?", [name])
        return found[0] if found else None

    def cooccurring_tags(self, tag_ids: Sequence[int]) -> dict[int, list[Row]]:
        """By tag, those detected in the same images, the most frequent first."""
        found: dict[int, list[Row]] = {tag_id: [] for tag_id in tag_ids}
        if found:
            marks = ", ".join("?" * len(tag_ids))
            for row in self.rows(
                "SELECT c.tag_id, tag, num_images FROM cooccurring_tags c "
                f"JOIN tag_names t ON t.tag_id = c.other_id WHERE c.tag_id IN ({marks}) "
                "ORDER BY c.tag_id, num_images DESC, tag",
                tag_ids,
            ):
                found[row["tag_id"]].append(row)
        return found

    def frequent_tags(self, number: int) -> list[str]:
        """The tags with most regions."""
        return [tag for tag, _ in self.stats.top_tags[:number]]

    def failures(self, examples: int) -> list[Row]:
        """Causes of failed images with their number, some of the images and their messages."""
        found = self.rows(
            f"SELECT {CAUSE} AS cause, count(*) AS number FROM images WHERE status = 'failed' "
            "GROUP BY 1 ORDER BY number DESC, cause",
            [],
        )
        for row in found:
            row["examples"] = self.rows(
                f"SELECT image_id, message FROM images WHERE status = 'failed' AND {CAUSE} = ? "
                "ORDER BY position LIMIT ?",
                [row["cause"], examples],
            )
        return found

    def _slice(self, filters: Filters, limit: int, offset: int) -> list[Row]:
        """Rows without filters in the data set's order: their positions are known."""
        total = self.stats.num_images
        first = max(total - offset - limit, 0) if filters.descending else offset
        last = total - offset if filters.descending else offset + limit
        direction = "DESC" if filters.descending else "ASC"
        return self.rows(
            f"SELECT {_COLUMNS} FROM images WHERE position >= ? AND position < ? "
            f"ORDER BY position {direction}",
            [first, last],
        )

    def _count(self, filters: Filters) -> int:
        if not filters.any:
            return self.stats.num_images
        where, values = where_clause(filters)
        return self.rows(f"SELECT count(*) AS number FROM images WHERE {where}", values)[0][
            "number"
        ]
