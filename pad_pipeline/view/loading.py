"""Reads one shard into the tables of the index, whole or not at all."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.dataset.parts import without_chunk
from pad_pipeline.dataset.reader import DAMAGED_SHARD, columns_without_masks, schema_problem
from pad_pipeline.errors import UserError, first_line
from pad_pipeline.storage.parquet import ParquetFile

_BATCH_ROWS = 4096

TABLES = """
CREATE TABLE IF NOT EXISTS shards (
    shard INTEGER, name VARCHAR, version VARCHAR, num_rows BIGINT, problem VARCHAR
);
CREATE TABLE IF NOT EXISTS tag_names (tag_id INTEGER, tag VARCHAR);
CREATE TABLE IF NOT EXISTS images (
    position INTEGER, shard INTEGER, shard_row INTEGER, image_id VARCHAR, width INTEGER,
    height INTEGER, caption VARCHAR, words VARCHAR, status VARCHAR, stage VARCHAR, type VARCHAR,
    message VARCHAR, num_regions INTEGER, max_score FLOAT, max_area BIGINT, main_tag INTEGER
);
CREATE TABLE IF NOT EXISTS regions (
    position INTEGER, number INTEGER, tag_id INTEGER, score FLOAT, area BIGINT, share FLOAT,
    predicted_iou FLOAT, x0 FLOAT, y0 FLOAT, x1 FLOAT, y1 FLOAT
);
CREATE TABLE IF NOT EXISTS image_tags (
    position INTEGER, tag_id INTEGER, score FLOAT, in_caption BOOLEAN
);
"""


def load_shard(con: duckdb.DuckDBPyConnection, url: str, name: str, version: str) -> None:
    """Adds a shard's rows; of one that cannot be read, only its name and why."""
    row = con.execute("SELECT coalesce(max(shard) + 1, 0) FROM shards").fetchone()
    first = con.execute("SELECT coalesce(max(position) + 1, 0) FROM images").fetchone()
    assert row is not None
    assert first is not None
    tags = dict(con.execute("SELECT tag, tag_id FROM tag_names").fetchall())
    num_rows, problem, num_tags = 0, None, len(tags)
    con.begin()
    try:
        with storage.open_read(url) as source:
            file = ParquetFile(source)
            problem = schema_problem(without_chunk(file.schema_arrow))
            if problem is None:
                for batch in file.iter_batches(_BATCH_ROWS, columns_without_masks()):
                    batch.validate(full=True)
                    _insert(con, batch, row[0], num_rows, first[0] + num_rows, tags)
                    num_rows += batch.num_rows
        names = list(tags)[num_tags:]
        if names:
            ids = pa.array(range(num_tags, num_tags + len(names)), pa.int32())
            _append(con, "tag_names", pa.table({"tag_id": ids, "tag": names}))
    except (*DAMAGED_SHARD, UserError) as error:
        con.rollback()
        con.begin()
        num_rows, problem = 0, first_line(error)
    con.execute(
        "INSERT INTO shards VALUES (?, ?, ?, ?, ?)", [row[0], name, version, num_rows, problem]
    )
    con.commit()


def _insert(
    con: duckdb.DuckDBPyConnection,
    batch: pa.RecordBatch,
    shard: int,
    first_row: int,
    first_position: int,
    tags: dict[str, int],
) -> None:
    number = batch.num_rows
    positions = np.arange(first_position, first_position + number, dtype=np.int32)
    labels, counts, parents = _flat(batch.column("labels"))
    starts = np.cumsum(counts) - counts
    tag_ids = _tag_ids(labels.field("tag"), tags)
    scores = labels.field("score").to_numpy(zero_copy_only=False)
    areas = labels.field("area").to_numpy(zero_copy_only=False)
    width, height = (batch.column(n).to_numpy().astype(np.int64) for n in ("width", "height"))
    pixels = np.maximum(width * height, 1)
    boxes = labels.field("bbox").flatten().to_numpy(zero_copy_only=False).reshape(-1, 4)
    best = _best_of_each(scores, parents)
    has = counts > 0
    error = batch.column("error")
    captions = batch.column("caption")
    images = {
        "position": positions,
        "shard": np.full(number, shard, np.int32),
        "shard_row": np.arange(first_row, first_row + number, dtype=np.int32),
        **{name: batch.column(name) for name in ("image_id", "width", "height")},
        "caption": captions,
        "words": pc.utf8_lower(pc.coalesce(captions, pa.scalar(""))),
        "status": batch.column("status"),
        **{name: pc.struct_field(error, name) for name in ("stage", "type", "message")},
        "num_regions": counts.astype(np.int32),
        "max_score": _spread(scores, best, has, pa.float32()),
        "max_area": _spread(_maxima(areas, parents, number)[has], None, has, pa.int64()),
        "main_tag": _spread(tag_ids, best, has, pa.int32()),
    }
    _append(con, "images", pa.table(images))
    regions = {
        "position": positions[parents],
        "number": (np.arange(len(parents)) - starts[parents]).astype(np.int32),
        "tag_id": tag_ids,
        "score": scores,
        "area": areas,
        "share": (areas / pixels[parents]).astype(np.float32),
        "predicted_iou": labels.field("predicted_iou"),
        **{name: boxes[:, column] for column, name in enumerate(("x0", "y0", "x1", "y1"))},
    }
    _append(con, "regions", pa.table(regions))
    image_tags, _, parents = _flat(batch.column("tags"))
    tag_ids = _tag_ids(image_tags.field("tag"), tags)
    # One that is there from several origins or phrases counts once.
    _, first, which = np.unique(
        parents * max(len(tags), 1) + tag_ids, return_index=True, return_inverse=True
    )
    in_caption = np.zeros(len(first), bool)
    in_caption[which[_in_caption(image_tags)]] = True
    order = np.argsort(first)
    first = first[order]
    rows = {
        "position": positions[parents[first]],
        "tag_id": tag_ids[first],
        "score": image_tags.field("score").take(pa.array(first)),
        "in_caption": in_caption[order],
    }
    _append(con, "image_tags", pa.table(rows))


def _flat(column: pa.ListArray) -> tuple[pa.StructArray, np.ndarray, np.ndarray]:
    """A list column's elements, how many every row has, and the row of every element."""
    counts = pc.list_value_length(column).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = column.offsets.to_numpy()
    structs = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
    return structs, counts, np.repeat(np.arange(len(counts)), counts)


def _in_caption(tags: pa.StructArray) -> np.ndarray:
    """Which of an image's tags are phrases of a caption; none before version 2."""
    if tags.type.get_field_index("caption_start") < 0:
        return np.zeros(len(tags), bool)
    return pc.is_valid(tags.field("caption_start")).to_numpy(zero_copy_only=False)


def _tag_ids(column: pa.Array, tags: dict[str, int]) -> np.ndarray:
    """Numbers of tags; new ones are added to `tags`."""
    encoded = pc.dictionary_encode(column)
    known = [tags.setdefault(tag, len(tags)) for tag in encoded.dictionary.to_pylist()]
    return np.asarray(known, np.int32)[encoded.indices.to_numpy(zero_copy_only=False)]


def _best_of_each(scores: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """Of each row that has any, the element with the best score, the first of equals."""
    order = np.lexsort((-np.nan_to_num(scores), parents))
    kept = np.r_[True, parents[order][1:] != parents[order][:-1]] if len(order) else []
    return order[np.asarray(kept, bool)]


def _maxima(values: np.ndarray, parents: np.ndarray, number: int) -> np.ndarray:
    maxima = np.zeros(number, values.dtype)
    np.maximum.at(maxima, parents, values)
    return maxima


def _spread(
    values: np.ndarray, chosen: np.ndarray | None, has: np.ndarray, kind: pa.DataType
) -> pa.Array:
    """One value for every row that has one, null for the others."""
    full = np.zeros(len(has), values.dtype)
    full[has] = values if chosen is None else values[chosen]
    return pa.array(full, kind, mask=~has)


def _append(con: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    con.register("rows_to_add", rows)
    con.execute(f"INSERT INTO {table} SELECT * FROM rows_to_add")
    con.unregister("rows_to_add")
