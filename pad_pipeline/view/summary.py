"""What is counted once when an index is made: tags, their co-occurrence, and the statistics."""

from __future__ import annotations

import json
from typing import Any

import duckdb

from pad_pipeline.dataset.manifest import State
from pad_pipeline.dataset.stats import (
    AREA_FRACTION_EDGES,
    MANY_REGIONS,
    NUM_TOP_TAGS,
    SCORE_EDGES,
    Histogram,
    Stats,
)
from pad_pipeline.view.conditions import CAUSE

NUM_COOCCURRING = 12
"""Tags that are kept for each tag, of those detected in the same images."""
_MOST_TAGS_PAIRED = 30
"""Different tags of one image that are paired; the pairs of hundreds would outgrow the rest."""


def tag_counts(regions: str, image_tags: str) -> str:
    """The query that counts all tags in these tables of regions and of images' tags."""
    return f"""
    WITH detected AS (
        SELECT position, tag_id, count(*)::INTEGER AS regions FROM {regions} GROUP BY ALL
    )
    SELECT tag_id, tag, row_number() OVER (ORDER BY tag)::INTEGER AS alphabetical,
        coalesce(r.num_regions, 0) AS num_regions, coalesce(r.num_images, 0) AS num_images,
        coalesce(g.num_tagged, 0) AS num_tagged, coalesce(g.num_undetected, 0) AS num_undetected,
        s.mean_score
    FROM tag_names
    LEFT JOIN (
        SELECT tag_id, sum(regions) AS num_regions, count(*) AS num_images
        FROM detected GROUP BY 1
    ) r USING (tag_id)
    LEFT JOIN (SELECT tag_id, avg(score) AS mean_score FROM {regions} GROUP BY 1) s USING (tag_id)
    LEFT JOIN (
        SELECT tag_id, count(DISTINCT position) AS num_tagged,
            count(*) FILTER (WHERE detected.regions IS NULL) AS num_undetected
        FROM {image_tags} LEFT JOIN detected USING (position, tag_id) GROUP BY 1
    ) g USING (tag_id)
    """


def tag_pairs(regions: str) -> str:
    """The query that counts the images in which two tags are detected; `regions` is its source."""
    return f"""
    WITH detected AS (SELECT DISTINCT position, tag_id FROM {regions})
    SELECT a.tag_id, b.tag_id AS other_id, count(*) AS num_images
    FROM detected a JOIN detected b USING (position)
    WHERE a.tag_id <> b.tag_id AND position IN (
        SELECT position FROM detected GROUP BY position HAVING count(*) <= {_MOST_TAGS_PAIRED}
    )
    GROUP BY a.tag_id, b.tag_id
    """


_TABLES = f"""
CREATE OR REPLACE TABLE tags AS
    FROM ({tag_counts("regions", "image_tags")}) ORDER BY num_regions DESC, tag;
CREATE OR REPLACE TABLE cooccurring_tags AS
    FROM ({tag_pairs("regions")}) QUALIFY row_number() OVER (
        PARTITION BY tag_id ORDER BY num_images DESC, other_id
    ) <= {NUM_COOCCURRING};
CREATE OR REPLACE TABLE caption_order AS
    SELECT position, row_number() OVER (ORDER BY words, position)::INTEGER AS place
    FROM images ORDER BY position;
CREATE OR REPLACE TABLE facts AS SELECT ''::VARCHAR AS name, ''::VARCHAR AS value LIMIT 0;
"""


def write(con: duckdb.DuckDBPyConnection, url: str, state: State) -> None:
    """Makes the tables that are derived from images, regions and image tags anew."""
    con.execute(_TABLES)
    stats = _stats(con, url, state)
    text = json.dumps({name: getattr(stats, name) for name in Stats.__slots__}, default=_plain)
    con.execute("INSERT INTO facts VALUES ('stats', ?)", [text])


def read(con: duckdb.DuckDBPyConnection) -> Stats:
    """The statistics that `write` left."""
    row = con.execute("SELECT value FROM facts WHERE name = 'stats'").fetchone()
    assert row is not None
    found: dict[str, Any] = json.loads(row[0])
    for name in ("area_share", "score", "predicted_iou"):
        edges, counts = found[name]
        found[name] = Histogram(tuple(edges), tuple(counts))
    for name in ("top_tags", "top_tags_without_region"):
        found[name] = tuple((tag, count) for tag, count in found[name])
    found["regions_per_image"] = tuple(found["regions_per_image"])
    return Stats(**found)


def tag_figures(con: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """The figures of `Stats` that are of tags."""
    num_tagged, num_undetected = _row(con, "SELECT sum(num_tagged), sum(num_undetected) FROM tags")
    return {
        "num_region_tags": _one(con, "SELECT count(*) FROM tags WHERE num_regions > 0"),
        "num_image_tags": _one(con, "SELECT count(*) FROM tags WHERE num_tagged > 0"),
        "num_tags_given": int(num_tagged or 0),
        "num_tags_without_region": int(num_undetected or 0),
        "top_tags": _top(con, "num_regions"),
        "top_tags_without_region": _top(con, "num_undetected"),
    }


def _plain(value: Any) -> Any:
    return [value.edges, value.counts] if isinstance(value, Histogram) else list(value)


def _stats(con: duckdb.DuckDBPyConnection, url: str, state: State) -> Stats:
    """The figures that `compute_stats` counts, by SQL."""
    statuses = dict(con.execute("SELECT status, count(*) FROM images GROUP BY 1").fetchall())
    per_image = [0] * (MANY_REGIONS + 1)
    for number, count in con.execute(
        f"SELECT least(num_regions, {MANY_REGIONS}), count(*) FROM images "
        "WHERE status <> 'failed' GROUP BY 1"
    ).fetchall():
        per_image[number] = count
    num_regions = _one(con, "SELECT count(*) FROM regions")
    decoded = sum(per_image)
    return Stats(
        url=url,
        state=state,
        num_images=sum(statuses.values()),
        images_by_status={name: statuses.get(name, 0) for name in ("ok", "empty", "failed")},
        num_regions=num_regions,
        mean_regions=num_regions / decoded if decoded else 0.0,
        regions_per_image=tuple(per_image),
        **tag_figures(con),
        area_share=_histogram(con, "share", AREA_FRACTION_EDGES, "regions"),
        score=_histogram(con, "score", SCORE_EDGES, "regions"),
        predicted_iou=_histogram(con, "predicted_iou", SCORE_EDGES, "regions"),
        failures=dict(
            con.execute(
                f"SELECT {CAUSE}, count(*) AS number FROM images "
                "WHERE status = 'failed' GROUP BY 1 ORDER BY number DESC, 1"
            ).fetchall()
        ),
    )


def _top(con: duckdb.DuckDBPyConnection, column: str) -> tuple[tuple[str, int], ...]:
    rows = con.execute(
        f"SELECT tag, {column}::BIGINT FROM tags WHERE {column} > 0 "
        f"ORDER BY {column} DESC, tag LIMIT {NUM_TOP_TAGS}"
    ).fetchall()
    return tuple((tag, count) for tag, count in rows)


def _histogram(
    con: duckdb.DuckDBPyConnection, value: str, edges: tuple[float, ...], source: str
) -> Histogram:
    """Values beyond the outer edges in the outer bins; compared as float32, like the shards'."""
    bins = " + ".join(f"(value >= {edge}::FLOAT)::INTEGER" for edge in edges[1:-1])
    counts = [0] * (len(edges) - 1)
    number = f"CASE WHEN isfinite({value}) THEN ({value})::FLOAT ELSE 0 END"
    for bin_, count in con.execute(
        f"SELECT {bins} AS bin, count(*) FROM (SELECT {number} AS value FROM {source}) GROUP BY 1"
    ).fetchall():
        counts[bin_] = count
    return Histogram(edges, tuple(counts))


def _one(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    return int(_row(con, sql)[0] or 0)


def _row(con: duckdb.DuckDBPyConnection, sql: str) -> tuple[Any, ...]:
    row = con.execute(sql).fetchone()
    assert row is not None
    return row
