"""Builds the viewer's index of a data set: one DuckDB file in a cache folder, without the masks.

    shards            every Parquet file: its name, version, rows, and what is wrong with it
    images            one row per image: where its record lies, and what is filtered and sorted by
    regions           one row per region
    image_tags        one row per tag that the tagger found in an image
    tags              counts by tag
    cooccurring_tags  for each tag, those detected most often in the same images
    caption_order     the images' places in the alphabetical order of captions
    facts             the figures of the statistics page, as JSON

An index is kept under the versions of the shards that it was made of. Where shards were only added
since, as while a run is going on, the index before is copied and the new ones are added.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb

from pad_pipeline import storage
from pad_pipeline.dataset.manifest import State, state_of
from pad_pipeline.dataset.parts import PARTS, list_parts
from pad_pipeline.dataset.reader import list_dataset
from pad_pipeline.errors import UserError, first_line
from pad_pipeline.storage.atomic import remove_temporary_files, replacing
from pad_pipeline.view import summary
from pad_pipeline.view.loading import TABLES, load_shard

logger = logging.getLogger(__name__)

LAYOUT_VERSION = 4
"""Begins the name of an index: raised whenever its tables change."""
LIMITS = {
    "memory_limit": "400MB",
    "threads": 2,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
"""Of every database: memory and threads are bounded, and no extension is loaded."""
READING_LIMITS = {**LIMITS, "memory_limit": "250MB"}
_STALE_S = 24 * 3600.0
_LOG_PERIOD_S = 5.0

Row = dict[str, Any]
"""What a query finds, by column."""

_DROP_UNFINISHED = f"""
CREATE TEMP TABLE gone AS
    SELECT shard FROM shards WHERE starts_with(name, '{PARTS}') OR version = '';
DELETE FROM regions WHERE position IN (
    SELECT position FROM images WHERE shard IN (SELECT shard FROM gone));
DELETE FROM image_tags WHERE position IN (
    SELECT position FROM images WHERE shard IN (SELECT shard FROM gone));
DELETE FROM images WHERE shard IN (SELECT shard FROM gone);
DELETE FROM shards WHERE shard IN (SELECT shard FROM gone);
"""
"""From an index that is extended: what may have changed without a new version."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What stands in a data set's folder now.

    `shards` are (name, version) in the order of their names, and `parts` of shards that a run is
    writing; `missing` are shards that the manifest of a finished data set names and that are not
    there. `num_expected` images are what the run will have when it is finished, None where the
    manifest does not say.
    """

    url: str
    state: State
    num_expected: int | None
    shards: tuple[tuple[str, str], ...]
    missing: tuple[str, ...]
    parts: tuple[tuple[str, str], ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """A text that differs once anything of it has changed."""
        versions = [duckdb.__version__, self.state, self.shards, self.missing]
        versions.append(self.parts)
        return hashlib.sha256(json.dumps(versions).encode()).hexdigest()[:24]


def scan(url: str) -> Contents:
    """What a data set's folder holds, without opening a shard.

    Raises `UserError` where nothing is there, or no data set of PAD records.
    """
    manifest, names = list_dataset(url)
    state = state_of(manifest)
    named = {shard["name"] for shard in manifest.get("shards", [])} if state == "finished" else ()
    parts = list_parts(url, manifest, names) if state == "running" else []
    number = manifest.get("num_images")
    return Contents(
        url=url,
        state=state,
        num_expected=number if isinstance(number, int) else None,
        shards=_with_versions(url, names),
        missing=tuple(sorted(set(named) - set(names))),
        parts=_with_versions(url, parts),
        manifest=manifest,
    )


def _with_versions(url: str, names: list[str]) -> tuple[tuple[str, str], ...]:
    def version(name: str) -> str:
        try:
            return storage.version(storage.join(url, name))
        except UserError:
            if name.startswith(PARTS):
                return ""  # it has become a shard in the meantime
            raise

    with ThreadPoolExecutor(max_workers=8) as pool:
        found = zip(names, pool.map(version, names), strict=True)
        return tuple((name, version) for name, version in found if version)


def cache_folder() -> Path:
    """Where indexes are kept: `PAD_CACHE`, else the user's cache folder (XDG)."""
    if named := os.environ.get("PAD_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "pad-pipeline"


def build(contents: Contents) -> Path:
    """The index of these contents, made now unless the cache has it.

    Raises `UserError` where the cache cannot be written.
    """
    digest = hashlib.sha256(storage.absolute(contents.url).encode()).hexdigest()[:16]
    folder = cache_folder() / "view" / digest
    path = folder / f"v{LAYOUT_VERSION}-{contents.key}.duckdb"
    if path.exists():
        return path
    with storage.user_errors(str(folder), "write the viewer's index to"):
        folder.mkdir(parents=True, exist_ok=True)
        remove_temporary_files(folder, _STALE_S, folders=True)
        try:
            with replacing(path) as temporary:
                try:
                    _make(contents, temporary, _newest(folder))
                finally:
                    for rest in folder.glob(f"{temporary.name}.*"):  # the database's own
                        rest.unlink(missing_ok=True)
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise UserError(
                f"cannot write the viewer's index to {folder} ({first_line(error)}): make room "
                "there, or set PAD_CACHE to another folder"
            ) from error
    for old in folder.glob("*.duckdb"):
        if old != path:
            old.unlink(missing_ok=True)  # a server that has it open keeps reading it
    return path


def connect(path: Path, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    """A connection with bounded memory and threads, which loads no extension."""
    limits = READING_LIMITS if read_only else LIMITS
    options = {**limits, "enable_external_access": not read_only}
    con = duckdb.connect(str(path), read_only=read_only, config=options)
    con.execute("SET enable_progress_bar = false")  # it would be on stdout
    return con


def _make(contents: Contents, path: Path, before: Path | None) -> None:
    began = logged = time.monotonic()
    known: dict[str, str] = {}
    if before is not None and (known := _reusable(before, contents)):
        shutil.copyfile(before, path)
    con = connect(path, read_only=False)
    try:
        con.execute("SET preserve_insertion_order = true")
        con.execute(f"SET temp_directory = '{str(path).replace(chr(39), chr(39) * 2)}.tmp'")
        con.execute(TABLES)
        con.execute(_DROP_UNFINISHED)
        fresh = [(name, version) for name, version in contents.shards if name not in known]
        for number, (name, version) in enumerate([*fresh, *contents.parts], 1):
            load_shard(con, storage.join(contents.url, name), name, version)
            if time.monotonic() - logged >= _LOG_PERIOD_S:
                logged = time.monotonic()
                logger.info("indexed %d of %d shards", number, len(fresh) + len(contents.parts))
        for name in contents.missing:
            problem = "the manifest names it, but it is not there"
            con.execute("INSERT INTO shards VALUES (-1, ?, '', 0, ?)", [name, problem])
        summary.write(con, storage.absolute(contents.url), contents.state)
    finally:
        con.close()
    logger.info(
        "indexed %d shards of %s in %.1f s", len(fresh), contents.url, time.monotonic() - began
    )


def _reusable(before: Path, contents: Contents) -> dict[str, str]:
    """The shards of an older index by version, where new ones only follow them; else none."""
    try:
        con = connect(before, read_only=True)
        try:
            rows = con.execute(
                "SELECT name, version FROM shards WHERE version <> '' "
                f"AND NOT starts_with(name, '{PARTS}') ORDER BY shard"
            ).fetchall()
        finally:
            con.close()
    except duckdb.Error:
        return {}
    return dict(rows) if tuple(rows) == contents.shards[: len(rows)] else {}


def _newest(folder: Path) -> Path | None:
    """Of the same layout: one of another has other tables."""
    found = list(folder.glob(f"v{LAYOUT_VERSION}-*.duckdb"))
    with suppress(OSError):
        return max(found, key=lambda path: path.stat().st_mtime, default=None)
    return None
