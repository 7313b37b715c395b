"""Builds the index of a comparison with a ground truth: one DuckDB file in the cache folder.

images         those of the truth: place, id in the data set, size
objects        the truth's, with their masks where all have one
found_regions  what every region is, under each of `RULES`
found_objects  what became of every object, under each of `RULES`
image_errors   mistakes by image
tag_counts     regions and objects by tag
confusions     objects by their tag and that of the region that has them instead
..._at(score)  each of the five before where only regions from a score on count
figures        AP and its like by tag and of all (tag NULL), with precisions at 101 recalls
facts          the rest, as JSON
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pad_pipeline import storage
from pad_pipeline.errors import UserError, first_line
from pad_pipeline.ground_truth.coco import read_coco
from pad_pipeline.ground_truth.comparison import Comparison, compare_with_truth
from pad_pipeline.ground_truth.entries import Pair, entries_of
from pad_pipeline.ground_truth.matching import Matcher
from pad_pipeline.storage.atomic import remove_temporary_files, replacing
from pad_pipeline.view.index import Contents, cache_folder, connect
from pad_pipeline.view.truth.rules import RULES, Rule

logger = logging.getLogger(__name__)

_LAYOUT_VERSION = 2
_LOG_PERIOD_S = 5.0
_STALE_S = 24 * 3600.0

_TABLES = """
CREATE TABLE images (place INTEGER, image_id VARCHAR, width INTEGER, height INTEGER);
CREATE TABLE objects (
    place INTEGER, number INTEGER, tag VARCHAR, area DOUBLE, x0 FLOAT, y0 FLOAT, x1 FLOAT,
    y1 FLOAT, mask VARCHAR
);
CREATE TABLE found_regions (
    rule TINYINT, place INTEGER, number INTEGER, tag VARCHAR, score FLOAT, outcome VARCHAR,
    object INTEGER, above FLOAT, up_to FLOAT
);
CREATE TABLE found_objects (
    rule TINYINT, place INTEGER, number INTEGER, tag VARCHAR, outcome VARCHAR, region INTEGER,
    above FLOAT, up_to FLOAT
);
CREATE TABLE figures (
    rule TINYINT, tag VARCHAR, AP FLOAT, AP50 FLOAT, AP75 FLOAT, AR FLOAT, precisions FLOAT[]
);
CREATE TABLE facts (name VARCHAR, value VARCHAR);
"""

_DERIVED = """
CREATE MACRO found_regions_at(least) AS TABLE
    FROM found_regions WHERE above < least::FLOAT AND up_to >= least::FLOAT;
CREATE MACRO found_objects_at(least) AS TABLE
    FROM found_objects WHERE above < least::FLOAT AND up_to >= least::FLOAT;
CREATE MACRO image_errors_at(least) AS TABLE
    WITH r AS (
        SELECT rule, place, count(*) FILTER (WHERE outcome = 'found') AS found,
            count(*) FILTER (WHERE outcome = 'wrong tag') AS wrong,
            count(*) FILTER (WHERE outcome = 'found already') AS again,
            count(*) FILTER (WHERE outcome = 'no object') AS nothing
        FROM found_regions_at(least) GROUP BY ALL
    ), o AS (
        SELECT rule, place, count(*) FILTER (WHERE outcome = 'missed') AS missed
        FROM found_objects_at(least) GROUP BY ALL
    )
    SELECT rule, place, coalesce(found, 0)::INTEGER AS found, coalesce(wrong, 0)::INTEGER AS wrong,
        coalesce(again, 0)::INTEGER AS again, coalesce(nothing, 0)::INTEGER AS nothing,
        coalesce(missed, 0)::INTEGER AS missed,
        (coalesce(wrong, 0) + coalesce(again, 0) + coalesce(nothing, 0) + coalesce(missed, 0)
        )::INTEGER AS errors
    FROM r FULL JOIN o USING (rule, place);
CREATE MACRO confusions_at(least) AS TABLE
    SELECT o.rule, o.tag, r.tag AS named, count(*)::INTEGER AS number
    FROM found_objects_at(least) o JOIN found_regions_at(least) r
        ON r.rule = o.rule AND r.place = o.place AND r.number = o.region
    WHERE o.outcome = 'wrong tag' GROUP BY ALL;
CREATE MACRO tag_counts_at(least) AS TABLE
    WITH r AS (
        SELECT rule, tag, count(*) AS regions, count(*) FILTER (WHERE outcome = 'found') AS found,
            count(*) FILTER (WHERE outcome = 'wrong tag') AS wrong,
            count(*) FILTER (WHERE outcome = 'found already') AS again,
            count(*) FILTER (WHERE outcome = 'no object') AS nothing
        FROM found_regions_at(least) WHERE outcome <> 'ignored' GROUP BY ALL
    ), o AS (
        SELECT rule, tag, count(*) AS objects,
            count(*) FILTER (WHERE outcome = 'wrong tag') AS otherwise,
            count(*) FILTER (WHERE outcome = 'missed') AS missed
        FROM found_objects_at(least) WHERE outcome <> 'ignored' GROUP BY ALL
    )
    SELECT rule, tag, coalesce(objects, 0) AS objects, coalesce(regions, 0) AS regions,
        coalesce(found, 0) AS found, coalesce(wrong, 0) AS wrong, coalesce(again, 0) AS again,
        coalesce(nothing, 0) AS nothing, coalesce(missed, 0) AS missed,
        coalesce(otherwise, 0) AS otherwise
    FROM r FULL JOIN o USING (rule, tag);
CREATE TABLE image_errors AS FROM image_errors_at(0) ORDER BY rule, errors DESC, place;
CREATE TABLE confusions AS FROM confusions_at(0);
CREATE TABLE tag_counts AS FROM tag_counts_at(0);
"""


@dataclass(frozen=True, slots=True)
class TruthSource:
    """Where the ground truth is: COCO's instances JSON, and a JSON object of tag -> category."""

    url: str
    match: str | None = None


def build_truth(contents: Contents, source: TruthSource) -> Path:
    """The index of a data set's comparison with a truth, made now unless the cache has it.

    Raises `UserError` where the two cannot be compared or the cache cannot be written.
    """
    whose = [storage.absolute(each) for each in (contents.url, source.url, source.match) if each]
    versions = [storage.version(each) for each in (source.url, source.match) if each]
    folder = cache_folder() / "truth" / _digest(whose)[:16]
    path = folder / f"{_digest([_LAYOUT_VERSION, contents.key, versions])[:24]}.duckdb"
    if path.exists():
        return path
    with storage.user_errors(str(folder), "write the viewer's index to"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(folder, _STALE_S, folders=True)
        with replacing(path) as temporary:
            try:
                truth = read_coco(source.url)
                _make(compare_with_truth(contents.url, truth, source.match), temporary)
            except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
                raise UserError(
                    f"cannot write the viewer's index to {folder} ({first_line(error)}): make "
                    "room there, or set PAD_CACHE to another folder"
                ) from error
            finally:
                for rest in folder.glob(f"{temporary.name}.*"):  # the database's own
                    rest.unlink(missing_ok=True)
    for old in folder.glob("*.duckdb"):
        if old != path:
            old.unlink(missing_ok=True)
    return path


def _digest(values: Sequence[Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _make(compared: Comparison, path: Path) -> None:
    began = logged = time.monotonic()
    names = compared.truth.names
    matchers = [Matcher(kind, compared.category_of) for kind in compared.kinds]
    con = connect(path, read_only=False)
    done = 0
    try:
        con.execute(_TABLES)
        for batch in compared.batches():
            _insert_truth(con, batch, names, has_masks=compared.truth.has_masks)
            for matcher in matchers:
                _insert_matches(con, batch, matcher, names)
            done += len(batch)
            if time.monotonic() - logged >= _LOG_PERIOD_S:
                logged = time.monotonic()
                of = len(compared.place_of)
                logger.info("compared %d of %d images with the ground truth", done, of)
        con.execute(_DERIVED)
        _insert_figures(con, matchers, names)
        facts = {
            "num_images": len(compared.place_of),
            "num_failed": compared.num_failed,
            "has_masks": compared.truth.has_masks,
            "left_out": compared.left_out.most_common(),
        }
        con.executemany(
            "INSERT INTO facts VALUES (?, ?)", [(k, json.dumps(v)) for k, v in facts.items()]
        )
    finally:
        con.close()
    logger.info("compared %d images with the truth in %.1f s", done, time.monotonic() - began)


def _insert_truth(
    con: duckdb.DuckDBPyConnection, batch: list[Pair], names: dict[int, str], *, has_masks: bool
) -> None:
    images = [(p.place, p.record.image_id, p.record.width, p.record.height) for p in batch]
    _append(con, "images", images, ("place", "image_id", "width", "height"))
    rows = []
    for pair in batch:
        entries = entries_of(pair, "masks" if has_masks else "boxes", {})[0]
        for found, entry in zip(pair.image.objects, entries, strict=True):
            mask = entry["segmentation"]["counts"] if has_masks else None
            row = (pair.place, entry["number"], names[found.category], found.area)
            rows.append((*row, *found.bbox, mask))
    _append(
        con, "objects", rows, ("place", "number", "tag", "area", "x0", "y0", "x1", "y1", "mask")
    )


def _insert_matches(
    con: duckdb.DuckDBPyConnection, batch: list[Pair], matcher: Matcher, names: dict[int, str]
) -> None:
    regions, objects = matcher.add(batch)
    of_place = {pair.place: pair for pair in batch}
    tags = matcher.category_of
    rows = []
    for each in regions:
        region = of_place[each.place].record.labels[each.number]
        rule = Rule(matcher.kind, each.iou).number
        row = (rule, each.place, each.number, names[tags[region.tag]], region.score)
        rows.append((*row, each.outcome, each.object, each.above, each.up_to))
    columns = ("rule", "place", "number", "tag", "score", "outcome", "object", "above", "up_to")
    _append(con, "found_regions", rows, columns)
    rows = []
    for each in objects:
        found = of_place[each.place].image.objects[each.number]
        rule = Rule(matcher.kind, each.iou).number
        row = (rule, each.place, each.number, names[found.category])
        rows.append((*row, each.outcome, each.region, each.above, each.up_to))
    columns = ("rule", "place", "number", "tag", "outcome", "region", "above", "up_to")
    _append(con, "found_objects", rows, columns)


def _insert_figures(
    con: duckdb.DuckDBPyConnection, matchers: Sequence[Matcher], names: dict[int, str]
) -> None:
    """Of tags with objects to find, and of all."""
    rows: list[tuple[Any, ...]] = []
    for matcher in matchers:
        curves = matcher.curves(list(names))
        for rule in (rule for rule in RULES if rule.by == matcher.kind):
            rows.append((rule.number, None, *curves.summary().values(), None))
            for number, name in names.items():
                figures = curves.of(number)
                if figures["AP"] >= 0:
                    precisions = curves.precisions(number, rule.iou).tolist()
                    rows.append((rule.number, name, *figures.values(), precisions))
    columns = ("rule", "tag", "AP", "AP50", "AP75", "AR", "precisions")
    _append(con, "figures", rows, columns)


def _append(
    con: duckdb.DuckDBPyConnection,
    table: str,
    rows: Sequence[tuple[Any, ...]],
    names: Sequence[str],
) -> None:
    if not rows:
        return
    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    con.register("rows_to_add", pa.table(columns, names=list(names)))
    con.execute(f"INSERT INTO {table} SELECT * FROM rows_to_add")
    con.unregister("rows_to_add")
