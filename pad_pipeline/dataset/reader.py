"""Opens a data set of PAD records, finished or not, and streams its records shard by shard."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.dataset.chooser import Chooser
from pad_pipeline.dataset.manifest import MANIFEST, State, read_manifest, state_of
from pad_pipeline.dataset.parts import iter_new_rows, list_parts, without_chunk
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError, first_line
from pad_pipeline.records import PAD_SCHEMA, SCHEMAS, PadRecord, batch_to_records
from pad_pipeline.review.choice import ReviewChoice
from pad_pipeline.storage.parquet import ParquetFile

logger = logging.getLogger(__name__)

_BATCH_ROWS = 512
_TRIES = 3
_MASK_COLUMN = "labels.list.element.rle_mask"

DAMAGED_SHARD = (pa.ArrowException, OSError, ValueError, OverflowError)
"""What reading a damaged shard raises; `ValueError` where its columns' names are not text."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One Parquet file of a data set: its name in the folder, its URL and its rows."""

    name: str
    url: str
    num_rows: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """What stands in a data set's folder.

    `state` is the manifest's, "unknown" where there is none; `manifest` is `_manifest.json` as it
    is ({} where there is none). `shards` are in the order of their names, which is the order of the
    images that were annotated; `parts` hold what an unfinished run has of further shards, in the
    order in which that came.
    """

    url: str
    shards: tuple[Shard, ...]
    state: State
    manifest: dict[str, Any]
    parts: tuple[Shard, ...] = ()

    @property
    def files(self) -> tuple[Shard, ...]:
        """All that is read: the shards, then the parts."""
        return self.shards + self.parts

    @property
    def num_rows(self) -> int:
        """Rows that can be read now: images, of whatever status."""
        return sum(file.num_rows for file in self.files)


def open_dataset(url: str) -> Dataset:
    """Reads the manifest and the footer of every shard and part, but no row.

    Raises `UserError` where `url` is no data set of PAD records, where a shard is unreadable or has
    other columns, and where the manifest of a finished data set names a shard that is not there.
    """
    for tries_left in reversed(range(_TRIES)):
        manifest, names = list_dataset(url)
        state = state_of(manifest)
        if state == "finished":
            _check_complete(url, manifest, names)
        parts = list_parts(url, manifest, names) if state == "running" else []
        try:
            with ThreadPoolExecutor(max_workers=8) as pool:
                files = tuple(pool.map(lambda name: _open_shard(url, name), [*names, *parts]))
        except UserError:
            gone = not all(storage.exists(storage.join(url, name)) for name in parts)
            if gone and tries_left:
                continue  # they have become a shard in the meantime
            raise
        return Dataset(url, files[: len(names)], state, manifest, files[len(names) :])
    raise AssertionError("the last try returns or raises")


def report_unfinished(dataset: Dataset) -> None:
    """Log that a run is not finished and how much of it is read; nothing for other data sets.

    Raises `UserError` where none of its images is finished.
    """
    if dataset.state != "running":
        return
    if not dataset.num_rows:
        raise UserError(
            f"{dataset.url} is a run without a finished image yet: wait for the first ones, or run "
            "the same annotate command again if it was stopped"
        )
    number = dataset.manifest.get("num_images")
    logger.info(
        "%s is not finished: %s of its %s images are read; the same annotate command continues it",
        dataset.url,
        f"{dataset.num_rows:,}",
        f"{number:,}" if isinstance(number, int) else "unknown number of",
    )


def _check_complete(url: str, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    missing = sorted({shard["name"] for shard in manifest.get("shards", [])} - set(names))
    if missing:
        raise UserError(
            f"{url} is damaged: its manifest names {', '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not there; copy the folder again or "
            "annotate into a new one"
        )


def list_dataset(url: str) -> tuple[dict[str, Any], list[str]]:
    """A data set's manifest ({} where there is none) and its shards' names; opens no shard.

    Raises `UserError` where nothing is at `url`, or no data set of PAD records.
    """
    if not storage.exists(url):
        raise UserError(f"expected a data set of PAD records at {url}, but nothing is there")
    manifest = read_manifest(url)
    names = storage.list_files(url, ".parquet")
    if not manifest and not names:
        raise UserError(
            f"{url} is not a data set of PAD records: it has neither {MANIFEST} nor *.parquet; "
            "give the folder that `pad-pipeline annotate` wrote"
        )
    return manifest, names


def schema_problem(schema: pa.Schema, version: int | None = None) -> str | None:
    """What differs from `PAD_SCHEMA`, in words; None where the columns are equal.

    They may be those of any version that is read; with `version`, of this one.
    """
    allowed = [SCHEMAS[version]] if version is not None else SCHEMAS.values()
    if any(schema.equals(one) for one in allowed):
        return None
    others = [str(number) for number, one in SCHEMAS.items() if schema.equals(one)]
    if others:
        return f"has the columns of version {others[0]}, where the manifest says {version}"
    wanted, found = ({field.name: field for field in s} for s in (PAD_SCHEMA, schema))
    missing, extra = wanted.keys() - found.keys(), found.keys() - wanted.keys()
    if missing or extra:
        parts = [("lacks", missing), ("has in addition", extra)]
        return "; ".join(f"{verb} {', '.join(sorted(names))}" for verb, names in parts if names)
    for name, field in wanted.items():
        if not field.equals(found[name]):
            return f"column {name} should be {field.type}, but is {found[name].type}"
    return "its columns are in another order"


def iter_batches(
    dataset: Dataset, columns: Sequence[str] | None = None
) -> Iterator[tuple[Shard, pa.RecordBatch]]:
    """All rows in order, a few hundred at a time, as Arrow.

    The columns are those of the data set's own version. `columns` are names of `PAD_SCHEMA` or
    dotted Parquet paths such as "labels.list.element.score". Raises `UserError` naming the shard
    where one cannot be read, and where a run has gone on and put parts into a shard.
    """
    finished: set[int] = set()
    for shard in dataset.shards:
        with _readable(shard.url) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns):
                batch.validate(full=True)  # a shard may come from anyone: text that is not UTF-8
                yield shard, batch
    for part in dataset.parts:
        if not storage.exists(part.url):
            raise UserError(
                f"the run went on while {dataset.url} was read: run this command again, or wait "
                "until it has finished"
            )
        with _readable(part.url) as file:
            for batch in iter_new_rows(file, _BATCH_ROWS, columns, finished):
                batch.validate(full=True)
                yield part, batch


def iter_records(
    dataset: Dataset,
    select: Selection | None = None,
    review: ReviewChoice | None = None,
    *,
    masks: bool = True,
) -> Iterator[PadRecord]:
    """All records in order, as `select` and `review` want them, with memory for a few hundred.

    With `masks=False` every `rle_mask` is the empty string: masks are nine tenths of the bytes, and
    counting or listing does not need them. Raises `UserError` where a review is wanted and cannot
    be read.
    """
    chooser = Chooser(dataset.url, select, review)
    for chosen in chooser.choose(iter_whole_records(dataset, masks=masks)):
        yield chosen.record


def iter_whole_records(dataset: Dataset, *, masks: bool = True) -> Iterator[PadRecord]:
    """All records in order as they stand in the shards."""
    columns = None if masks else columns_without_masks()
    for _, batch in iter_batches(dataset, columns):
        yield from batch_to_records(batch, masks=masks)


def find_ids(dataset: Dataset | str, name: str, limit: int = 10) -> list[str]:
    """Up to `limit` ids whose last parts are `name`, as `sub/bus.jpg` for `bus.jpg`; reads ids."""
    if isinstance(dataset, str):
        dataset = open_dataset(dataset)
    found: list[str] = []
    for shard in dataset.files:
        with _readable(shard.url) as file:
            ids = file.read(columns=["image_id"]).column("image_id")
            found += ids.filter(pc.ends_with(ids, f"/{name}")).to_pylist()
        if len(found) >= limit:
            break
    return found[:limit]


def find_record(dataset: Dataset | str, image_id: str) -> PadRecord | None:
    """The record of one image, None where the data set does not have it; reads only the ids."""
    if isinstance(dataset, str):
        dataset = open_dataset(dataset)
    for shard in dataset.files:
        with _readable(shard.url) as file:
            ids = file.read(columns=["image_id"]).column("image_id")
            row = pc.index(ids, image_id).as_py()
            if row < 0:
                continue
            return _record_at(file, row)
    return None


def read_row(shard_url: str, row: int) -> PadRecord:
    """The record of one row of a shard; raises `UserError` where the shard cannot be read."""
    with _readable(shard_url) as file:
        found = _record_at(file, row)
    if found is None:
        raise UserError(f"the shard {shard_url} has no row {row}: it was written again since")
    return found


def _record_at(file: ParquetFile, row: int) -> PadRecord | None:
    """One row, by reading its row group alone."""
    for group in range(file.metadata.num_row_groups):
        num_rows = file.metadata.row_group(group).num_rows
        if row >= num_rows:
            row -= num_rows
            continue
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, row_groups=[group]):
            if row < batch.num_rows:
                one = batch.slice(row, 1)
                one.validate(full=True)  # a shard may come from anyone
                return batch_to_records(one)[0]
            row -= batch.num_rows
    return None


def columns_without_masks() -> list[str]:
    """The Parquet columns of a shard except the masks."""
    whole = [name for name in PAD_SCHEMA.names if name != "labels"]
    region = PAD_SCHEMA.field("labels").type.value_type
    parts = [f"labels.list.element.{field.name}" for field in region]
    return whole + [part for part in parts if part != _MASK_COLUMN]


def _open_shard(url: str, name: str) -> Shard:
    place = storage.join(url, name)
    with _readable(place) as file:
        problem = schema_problem(without_chunk(file.schema_arrow))
        if problem:
            raise UserError(f"{place} is not a shard of PAD records: it {problem}")
        return Shard(name, place, file.metadata.num_rows)


@contextmanager
def _readable(url: str) -> Iterator[ParquetFile]:
    with storage.open_read(url) as file, storage.user_errors(url, "read"):
        try:
            yield ParquetFile(file)
        except DAMAGED_SHARD as error:
            raise UserError(
                f"the shard {url} is damaged ({first_line(error)}): copy it again or "
                "annotate into a new folder"
            ) from error
