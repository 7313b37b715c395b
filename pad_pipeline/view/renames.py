"""Lays the tags that a review gives regions over an index, in memory: its file stays as it is.

The file is attached as `stored`, and each of its tables has a view of the same name over it. Where
regions are renamed, the views have the rows of their images anew, so that filters, counts and
statistics are those of the data set as the review has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from pad_pipeline.records import PadRecord, Tag
from pad_pipeline.review.marks import ImageMarks
from pad_pipeline.review.renaming import rename_regions
from pad_pipeline.view.index import READING_LIMITS, Row
from pad_pipeline.view.marked import regions_of
from pad_pipeline.view.summary import NUM_COOCCURRING, tag_counts, tag_pairs

_TABLES = ("shards", "caption_order", "facts")
_RENAMED_TABLES = ("tag_names", "images", "regions", "image_tags", "tags", "cooccurring_tags")

_AS_STORED = "".join(
    f"CREATE OR REPLACE VIEW {table} AS FROM stored.{table};\n" for table in _RENAMED_TABLES
)
_BEFORE = """
CREATE OR REPLACE TABLE renamed AS
    SELECT position, image_id FROM stored.images JOIN ids_to_rename USING (image_id);
CREATE OR REPLACE TABLE regions_before AS
    SELECT r.* FROM stored.regions r SEMI JOIN renamed USING (position) ORDER BY position, number;
CREATE OR REPLACE TABLE image_tags_before AS
    SELECT t.* FROM stored.image_tags t SEMI JOIN renamed USING (position) ORDER BY t.rowid;
"""
_CHANGED = """
CREATE OR REPLACE TABLE changed_regions AS
    SELECT r.* REPLACE (n.tag_id AS tag_id)
    FROM regions_before r JOIN new_regions n USING (position, number);
CREATE OR REPLACE TABLE changed_images AS
    SELECT i.* REPLACE (m.tag_id AS main_tag)
    FROM stored.images i JOIN (
        SELECT position, first(tag_id ORDER BY
            CASE WHEN isnan(score) THEN 0 ELSE score END DESC, number) AS tag_id
        FROM changed_regions GROUP BY position
    ) m USING (position);
CREATE OR REPLACE VIEW tag_names AS FROM stored.tag_names UNION ALL FROM new_names;
"""
_WITH_CHANGED = "".join(
    f"CREATE OR REPLACE VIEW {table} AS FROM stored.{table} "
    f"WHERE position NOT IN (SELECT position FROM changed_images) UNION ALL "
    f"FROM changed_{table};\n"
    for table in ("images", "regions", "image_tags")
)
_NUMBERS = ("num_regions", "num_images", "num_tagged", "num_undetected")
_COUNTED = f"""
CREATE OR REPLACE TABLE changed_tags AS
    WITH counts AS (
        SELECT *, 1 AS sign FROM stored.tags
        UNION ALL SELECT *, -1 FROM ({tag_counts("regions_before", "image_tags_before")})
        UNION ALL SELECT *, 1 FROM ({tag_counts("changed_regions", "changed_image_tags")})
    ), sums AS (
        SELECT tag_id, {", ".join(f"sum(sign * {name}) AS {name}" for name in _NUMBERS)},
            sum(sign * coalesce(mean_score, 0) * num_regions) AS score
        FROM counts GROUP BY tag_id
    )
    SELECT tag_id, tag, row_number() OVER (ORDER BY tag)::INTEGER AS alphabetical,
        {", ".join(_NUMBERS)}, CASE WHEN num_regions > 0 THEN score / num_regions END AS mean_score
    FROM tag_names JOIN sums USING (tag_id);
CREATE OR REPLACE TABLE pair_changes AS
    SELECT tag_id, other_id, sum(number) AS number FROM (
        SELECT tag_id, other_id, -num_images AS number FROM
            ({tag_pairs("regions_before")})
        UNION ALL
        SELECT tag_id, other_id, num_images FROM ({tag_pairs("changed_regions")})
    ) GROUP BY ALL HAVING sum(number) <> 0;
CREATE OR REPLACE TABLE changed_cooccurring_tags AS
    SELECT tag_id, other_id, coalesce(num_images, 0) + coalesce(number, 0) AS num_images
    FROM stored.cooccurring_tags FULL JOIN pair_changes USING (tag_id, other_id)
    -- Of a tag that has more others than are kept, a pair that is not among them is not known.
    WHERE coalesce(num_images, 0) + coalesce(number, 0) > 0 AND (
        num_images IS NOT NULL
        OR other_id IN (SELECT tag_id FROM new_names)
        OR tag_id NOT IN (
            SELECT tag_id FROM stored.cooccurring_tags GROUP BY 1
            HAVING count(*) >= {NUM_COOCCURRING}
        )
    )
    QUALIFY row_number() OVER (
        PARTITION BY tag_id ORDER BY coalesce(num_images, 0) + coalesce(number, 0) DESC, other_id
    ) <= {NUM_COOCCURRING};
CREATE OR REPLACE VIEW tags AS FROM changed_tags;
CREATE OR REPLACE VIEW cooccurring_tags AS FROM changed_cooccurring_tags;
"""
_NAMES = pa.schema([("tag_id", pa.int32()), ("tag", pa.string())])
_REGIONS = pa.schema([(name, pa.int32()) for name in ("position", "number", "tag_id")])
_IMAGE_TAGS = pa.schema(
    [
        *((name, pa.int32()) for name in ("position", "tag_id")),
        ("score", pa.float32()),
        ("in_caption", pa.bool_()),
    ]
)


def open_with_views(path: Path) -> duckdb.DuckDBPyConnection:
    """A connection in which the tables of an index are views, to be changed by `lay_over`."""
    spilled = {"temp_directory": f"{path}.tmp"}
    con = duckdb.connect(config={**READING_LIMITS, **spilled})
    con.execute("SET enable_progress_bar = false")  # it would be on stdout
    con.execute(f"ATTACH '{str(path).replace(chr(39), chr(39) * 2)}' AS stored (READ_ONLY)")
    con.execute("SET enable_external_access = false")
    for table in _TABLES:
        con.execute(f"CREATE VIEW {table} AS FROM stored.{table}")
    con.execute(_AS_STORED)
    return con


def lay_over(con: duckdb.DuckDBPyConnection, images: Mapping[str, ImageMarks]) -> None:
    """Makes the views those of the index with the new tags of these images, by image id.

    A mark of a region that is no longer as it was counts for nothing.
    """
    con.begin()
    try:
        if records := _rename(con, images):
            _keep(con, records)
            con.execute(_CHANGED + _WITH_CHANGED + _COUNTED)
        else:
            con.execute(_AS_STORED)
    except duckdb.Error:
        con.rollback()
        raise
    con.commit()


def _rename(
    con: duckdb.DuckDBPyConnection, images: Mapping[str, ImageMarks]
) -> list[tuple[int, PadRecord]]:
    """Position and renamed record, without masks and phrases, of the images; none if all are as
    they were."""
    con.register("ids_to_rename", pa.table({"image_id": pa.array(list(images), pa.string())}))
    con.execute(_BEFORE)
    con.unregister("ids_to_rename")
    rows = _rows(con, "FROM renamed ORDER BY position")
    regions, tags = (
        _by_position(
            _rows(
                con,
                f"SELECT b.*, tag FROM {table} b JOIN stored.tag_names USING (tag_id) "
                "ORDER BY b.rowid",
            )
        )
        for table in ("regions_before", "image_tags_before")
    )
    found, has_changed = [], False
    for row in rows:
        record = PadRecord(
            image_id=row["image_id"],
            uri="",
            width=0,
            height=0,
            caption=None,
            status="ok",
            error=None,
            tags=tuple(
                Tag(tag["tag"], tag["score"], caption_start=0 if tag["in_caption"] else None)
                for tag in tags[row["position"]]
            ),
            labels=tuple(regions_of(regions[row["position"]])),
        )
        renamed = rename_regions(record, images[record.image_id].of_regions(record.labels))
        found.append((row["position"], renamed))
        has_changed |= renamed != record
    return found if has_changed else []


def _keep(con: duckdb.DuckDBPyConnection, records: Sequence[tuple[int, PadRecord]]) -> None:
    """Puts the tags of renamed records where `_CHANGED` reads them."""
    ids: dict[str, int] = dict(con.execute("SELECT tag, tag_id FROM stored.tag_names").fetchall())
    num_stored = len(ids)  # they are numbered from 0 on
    region_rows, tag_rows = [], []
    for position, record in records:
        for number, region in enumerate(record.labels):
            region_rows.append((position, number, ids.setdefault(region.tag, len(ids))))
        for tag in record.tags:
            tag_id = ids.setdefault(tag.tag, len(ids))
            tag_rows.append((position, tag_id, tag.score, tag.caption_start is not None))
    new = [(tag_id, tag) for tag, tag_id in list(ids.items())[num_stored:]]
    for name, schema, rows in (
        ("new_names", _NAMES, new),
        ("new_regions", _REGIONS, region_rows),
        ("changed_image_tags", _IMAGE_TAGS, tag_rows),
    ):
        columns = zip(*rows, strict=True) if rows else [()] * len(schema)
        con.register("to_keep", pa.table([list(each) for each in columns], schema=schema))
        con.execute(f"CREATE OR REPLACE TABLE {name} AS FROM to_keep")
        con.unregister("to_keep")


def _rows(con: duckdb.DuckDBPyConnection, sql: str) -> list[Row]:
    result = con.execute(sql)
    names = [column[0] for column in result.description or ()]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _by_position(rows: list[Row]) -> defaultdict[int, list[Row]]:
    found: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["position"]].append(row)
    return found
