"""What a run has finished: the list of its images, the parts of open shards, the shards.

    OUTPUT/_manifest.json        what the run is; "state" becomes "finished" at the very end
    OUTPUT/_run/images.parquet   the images in order, one row group per shard
    OUTPUT/_run/progress/<k>/    parts of shard k: chunks in the order in which they came
    OUTPUT/pad-<k>.parquet       shard k, complete: the k-th range of the images in their order

Every file appears whole under its name or not at all, so a run killed at any moment leaves only
files that the next one can trust. A chunk is finished when a part or a shard holds it. `_run/` is
removed when all shards are there.
"""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.annotate.run_files import (
    RUN,
    Layout,
    digest_images,
    images_url,
    progress_url,
    read_images,
    write_images,
)
from pad_pipeline.dataset.manifest import (
    FORMAT,
    MANIFEST,
    SCHEMA_VERSION,
    read_manifest,
    write_manifest,
)
from pad_pipeline.dataset.writer import manifest_entry, read_table, write_table
from pad_pipeline.errors import UserError
from pad_pipeline.records import PAD_SCHEMA
from pad_pipeline.sources import ManifestRow
from pad_pipeline.storage.atomic import remove_temporary_files

logger = logging.getLogger(__name__)

FLUSH_INTERVAL_S = 0.5

_PART_SCHEMA = PAD_SCHEMA.append(pa.field("chunk", pa.int64(), nullable=False))


@dataclass
class Ledger:
    """The durable state of one run. Made by `open_or_resume`, used by one process at a time."""

    output: str
    layout: Layout
    manifest: dict[str, Any]
    done: np.ndarray
    """(number of chunks,) bool."""
    num_failed: int = 0
    num_finished: int = 0
    _buffer: dict[int, pa.Table] = field(default_factory=dict)
    _last_flush_s: float = 0.0

    @property
    def finished(self) -> bool:
        """Whether the data set is complete."""
        return self.manifest["state"] == "finished"

    @property
    def images_url(self) -> str:
        """Where the list of the images lies."""
        return images_url(self.output)

    def pending(self) -> Iterator[tuple[int, list[int]]]:
        """(shard, its unfinished chunks) for every unfinished shard, in order."""
        for shard in range(self.layout.num_shards):
            chunks = [chunk for chunk in self.layout.chunks_of(shard) if not self.done[chunk]]
            if chunks:
                yield shard, chunks

    def commit(self, chunk: int, table: pa.Table) -> None:
        """Take the records of one chunk (`PAD_SCHEMA`, one row per image, in order).

        They are on disk at the latest half a second and one commit later, or after `flush`.
        """
        if self.done[chunk]:
            return
        self.done[chunk] = True
        self._buffer[chunk] = table
        self.num_finished += table.num_rows
        self.num_failed += _count_failed(table)
        shard = self.layout.shard_of(chunk)
        if all(self.done[c] for c in self.layout.chunks_of(shard)):
            self.flush()
            self._write_shard(shard)
        elif time.monotonic() - self._last_flush_s >= FLUSH_INTERVAL_S:
            self.flush()

    def flush(self) -> None:
        """Write what was committed and is not on disk yet, one part per shard."""
        by_shard: dict[int, list[int]] = {}
        for chunk in sorted(self._buffer):
            by_shard.setdefault(self.layout.shard_of(chunk), []).append(chunk)
        for shard, chunks in by_shard.items():
            table = pa.concat_tables(
                self._buffer[chunk].append_column(
                    _PART_SCHEMA.field("chunk"),
                    pa.array(np.full(self._buffer[chunk].num_rows, chunk), pa.int64()),
                )
                for chunk in chunks
            )
            name = f"{chunks[0]:08d}-{uuid.uuid4().hex[:8]}.parquet"
            write_table(storage.join(progress_url(self.output, shard), name), table)
            for chunk in chunks:
                del self._buffer[chunk]
        self._last_flush_s = time.monotonic()

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Declare the data set complete; every chunk must have been committed."""
        assert self.done.all(), "finish() before the last chunk"
        shards = [
            manifest_entry(
                self.output, self.layout.shard_name(shard), self.layout.shard_rows(shard)
            )
            for shard in range(self.layout.num_shards)
        ]
        self.manifest = {**self.manifest, **provenance, "state": "finished", "shards": shards}
        write_manifest(self.output, self.manifest)
        _clean_up(self.output)

    def _write_shard(self, shard: int) -> None:
        """Put the parts of a shard together in the order of the images, then remove them."""
        url = progress_url(self.output, shard)
        parts: dict[int, pa.Table] = {}
        for name in storage.list_files(url, ".parquet"):
            table = read_table(storage.join(url, name))
            for chunk in pc.unique(table["chunk"]).to_pylist():
                rows = table.filter(pc.equal(table["chunk"], chunk))
                parts.setdefault(chunk, rows.drop_columns("chunk"))
        table = pa.concat_tables(parts[chunk] for chunk in self.layout.chunks_of(shard))
        expected = read_images(self.images_url, shard)["image_id"]
        if table["image_id"].combine_chunks() != expected.combine_chunks():
            raise AssertionError(f"shard {shard}: the records are not those of its images")
        write_table(
            storage.join(self.output, self.layout.shard_name(shard)),
            table.combine_chunks(),
            row_group_size=self.layout.rows_per_shard,
        )
        storage.remove_tree(url)


def open_or_resume(
    output: str,
    rows: Iterable[ManifestRow],
    identity: Mapping[str, Any],
    *,
    rows_per_shard: int,
    chunk_size: int,
) -> Ledger:
    """Begin a run at `output`, or take up the one that is there.

    `rows` are the source's images in their order, `identity` everything that decides the records.
    Raises `UserError` where the output belongs to another source or config or holds other files.
    """
    storage.check_writable(output)
    images = images_url(output)
    manifest = read_manifest(output)
    if not manifest or _is_blank(output, manifest):
        strangers = storage.list_files(output, ".parquet")
        if strangers:
            raise UserError(
                f"{output} already holds Parquet files ({strangers[0]}) but no {MANIFEST}, so it "
                "is not a run of this program; choose another output"
            )
        storage.remove_tree(storage.join(output, RUN))
        num_images, images_digest = write_images(images, rows, rows_per_shard)
        manifest = {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            "state": "running",
            "num_images": num_images,
            "images_digest": images_digest,
            "rows_per_shard": rows_per_shard,
            "chunk_size": chunk_size,
            "identity": dict(identity),
        }
        write_manifest(output, manifest)
    else:
        _check_same(output, manifest, rows, identity)
    layout = layout_of(manifest)
    done = np.zeros(-(-layout.num_images // layout.chunk_size), dtype=bool)
    ledger = Ledger(output=output, layout=layout, manifest=manifest, done=done)
    _resume(ledger)
    if ledger.finished:
        _clean_up(output)  # a run may have been killed before it came to it
    return ledger


def _is_blank(output: str, manifest: Mapping[str, Any]) -> bool:
    """Whether a run was begun but has not finished an image, so there is nothing to keep."""
    if manifest["state"] == "finished" or storage.list_files(output, ".parquet"):
        return False
    if not storage.is_folder(storage.join(output, RUN, "progress")):
        return True
    layout = layout_of(manifest)
    return not any(
        storage.list_files(progress_url(output, shard), ".parquet")
        for shard in range(layout.num_shards)
    )


def layout_of(manifest: Mapping[str, Any]) -> Layout:
    """How the images of a run are cut, as its manifest says."""
    return Layout(
        num_images=manifest["num_images"],
        rows_per_shard=manifest["rows_per_shard"],
        chunk_size=manifest["chunk_size"],
    )


def _resume(ledger: Ledger) -> None:
    """Mark what earlier runs have finished."""
    layout = ledger.layout
    present = set(storage.list_files(ledger.output, ".parquet"))
    for shard in range(layout.num_shards):
        name = layout.shard_name(shard)
        if name in present:
            table = read_table(storage.join(ledger.output, name), columns=["status"])
            if table.num_rows != layout.shard_rows(shard):
                raise UserError(
                    f"{storage.join(ledger.output, name)} has {table.num_rows} rows instead of "
                    f"{layout.shard_rows(shard)}; delete it and run the same command again"
                )
            ledger.done[list(layout.chunks_of(shard))] = True
            ledger.num_finished += table.num_rows
            ledger.num_failed += _count_failed(table)
            continue
        url = progress_url(ledger.output, shard)
        seen: set[int] = set()
        for part in storage.list_files(url, ".parquet"):
            table = read_table(storage.join(url, part), columns=["status", "chunk"])
            fresh = table.filter(pc.invert(pc.is_in(table["chunk"], pa.array(seen, pa.int64()))))
            seen |= set(pc.unique(table["chunk"]).to_pylist())
            ledger.num_finished += fresh.num_rows
            ledger.num_failed += _count_failed(fresh)
        ledger.done[list(seen)] = True
        if not ledger.finished and seen == set(layout.chunks_of(shard)):
            ledger._write_shard(shard)


def _clean_up(output: str) -> None:
    """Remove what only an unfinished run needs, and files that killed runs have left half written.

    Where outputs can be locked, nobody else is writing there now.
    """
    storage.remove_tree(storage.join(output, RUN))
    folder = storage.local_path(output)
    if folder is not None:
        remove_temporary_files(folder, older_than_s=0)


def _check_same(
    output: str, manifest: Mapping[str, Any], rows: Iterable[ManifestRow], identity: Mapping
) -> None:
    before = _flatten(manifest["identity"])
    now = _flatten(json.loads(json.dumps(identity)))
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{output} was begun with another config: {'; '.join(changed[:3])}{more}. Use the same "
            "settings to go on, or another output"
        )
    num_images, images_digest = digest_images(rows)
    if images_digest != manifest["images_digest"]:
        raise UserError(
            f"the source has changed since {output} was begun: it had {manifest['num_images']:,} "
            f"images and has {num_images:,} now, or other names or captions. Restore it to go on, "
            "or use another output"
        )


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat


def _count_failed(table: pa.Table) -> int:
    return pc.sum(pc.equal(table["status"], "failed")).as_py() or 0
