"""Where a run begins: a new one, or the unfinished one that is there goes on."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.annotate.ledger import Ledger, count_failed
from pad_pipeline.annotate.run_files import (
    ImageList,
    images_url,
    list_images,
    progress_url,
    remove_run_files,
)
from pad_pipeline.annotate.shard_layout import layout_of
from pad_pipeline.annotate.source_changes import describe_changes
from pad_pipeline.dataset.manifest import (
    FORMAT,
    MANIFEST,
    RUN,
    check_run,
    read_manifest,
    write_manifest,
)
from pad_pipeline.dataset.writer import read_table
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.identity import earlier_default
from pad_pipeline.errors import UserError, plural
from pad_pipeline.records import COMMON_VERSION
from pad_pipeline.sources import ManifestRow

logger = logging.getLogger(__name__)

_NUM_NAMED = 3


def open_or_resume(
    output: str,
    rows: Iterable[ManifestRow],
    identity: Mapping[str, Any],
    *,
    rows_per_shard: int,
    chunk_size: int,
    schema_version: int = COMMON_VERSION,
) -> Ledger:
    """Begin a run at `output`, or resume the one that is there.

    `rows` are the source's images in their order, `identity` everything that decides the records.
    Raises `UserError` where the output belongs to another source or config or holds other files.
    """
    storage.check_writable(output)
    images = images_url(output)
    resized: list[int] = []
    manifest = read_manifest(output)
    check_run(output, manifest)
    if not manifest or _is_blank(output, manifest):
        foreign = storage.list_files(output, ".parquet")
        if foreign:
            raise UserError(
                f"{output} already holds Parquet files ({foreign[0]}) but no {MANIFEST}, so it "
                "is not a run of this program; choose another output"
            )
        storage.remove_tree(storage.join(output, RUN))
        listed = list_images(rows, rows_per_shard)
        storage.write_atomic(images, listed.data)
        manifest = {
            "format": FORMAT,
            "schema_version": schema_version,
            "state": "running",
            "num_images": listed.num_images,
            "images_digest": listed.content_digest,
            "given_digest": listed.given_digest,
            "places_digest": listed.places_digest,
            "rows_per_shard": rows_per_shard,
            "chunk_size": chunk_size,
            "identity": dict(identity),
        }
        write_manifest(output, manifest)
    else:
        _check_config(output, manifest, identity)
        listed = list_images(rows, manifest["rows_per_shard"])
        manifest, resized = _check_images(output, manifest, listed)
    layout = layout_of(manifest)
    done = np.zeros(layout.num_chunks, dtype=bool)
    ledger = Ledger(output=output, layout=layout, manifest=manifest, done=done)
    _resume(ledger)
    if resized:
        _warn_about_resized(ledger, resized, listed.read()["image_id"])
    if ledger.finished:
        remove_run_files(output)  # a run may have been killed just before
    return ledger


def keep_chunks_of_earlier_version(output: str, config: AnnotateConfig) -> AnnotateConfig:
    """The config with the chunks of the run at `output`, where an earlier version began it.

    That version knew no batches of one size, and the presets' chunks were smaller; a run goes on
    with the chunks and batches that it was begun with.
    """
    before = read_manifest(output).get("identity", {})
    if "chunk_size" not in before or "max_chunk_bytes" in before:
        return config
    kept = replace(
        config,
        chunk_size=before["chunk_size"],
        max_chunk_bytes=None,
        detect=replace(config.detect, group_by_size=False),
    )
    if kept != config:
        logger.info(
            "%s was begun by an earlier version: it goes on with chunks of %d images and batches "
            "in their order",
            output,
            kept.chunk_size,
        )
    return kept


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
            ledger.num_failed += count_failed(table)
            continue
        url = progress_url(ledger.output, shard)
        seen: set[int] = set()
        for part in storage.list_files(url, ".parquet"):
            table = read_table(storage.join(url, part), columns=["status", "chunk"])
            fresh = table.filter(pc.invert(pc.is_in(table["chunk"], pa.array(seen, pa.int64()))))
            seen |= set(pc.unique(table["chunk"]).to_pylist())
            ledger.num_finished += fresh.num_rows
            ledger.num_failed += count_failed(fresh)
        ledger.done[list(seen)] = True
        if not ledger.finished and seen == set(layout.chunks_of(shard)):
            ledger.write_shard(shard)


def _check_config(output: str, manifest: Mapping[str, Any], identity: Mapping) -> None:
    """Raise `UserError` where the run was begun with settings that make other records."""
    now = _flatten(json.loads(json.dumps(identity)))
    before = _flatten(manifest["identity"])
    before |= {name: earlier_default(name) for name in now.keys() - before.keys()}
    changed = [
        f"{name} was {before.get(name)!r} and is {now.get(name)!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
    if changed:
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise UserError(
            f"{output} was begun with another config: {'; '.join(changed[:3])}{more}. Use the same "
            "settings to continue it, or choose another output"
        )


def _check_images(
    output: str, manifest: dict[str, Any], listed: ImageList
) -> tuple[dict[str, Any], list[int]]:
    """The manifest, with the images' new places where they have moved; the list follows them.

    Beside it the numbers of the images whose files have another size now. Raises `UserError` where
    they are other images than those that the run was begun with, or other things are given.
    """
    resized: list[int] = []
    digest = manifest["images_digest"]
    # Before places could change, the one checksum was that of the places.
    if digest not in (listed.content_digest, listed.places_digest):
        before, now = _images_before(output), listed.read()
        is_early = "places_digest" not in manifest
        if is_early or any(before[name].to_pylist() != now[name].to_pylist() for name in _SAME):
            raise UserError(
                f"the source has changed since {output} was begun: "
                f"{describe_changes(before, now)}. Restore it to continue the run, or choose "
                "another output"
            )
        if manifest["state"] == "finished":
            logger.warning(
                "files of the source have other sizes than when %s was made of them; its records "
                "stay as they are, another output would have the new ones",
                output,
            )
            return manifest, []
        sizes = zip(before["size"].to_pylist(), now["size"].to_pylist(), strict=True)
        resized = [number for number, (then, there) in enumerate(sizes) if then != there]
        digest = listed.content_digest
    if manifest.get("given_digest", listed.given_digest) != listed.given_digest:
        raise UserError(
            f"other boxes, tags or captions are given with the images than when {output} was "
            "begun. Restore them to continue the run, or choose another output"
        )
    places = manifest.get("places_digest", manifest["images_digest"])
    if places == listed.places_digest or manifest["state"] == "finished":
        return manifest, resized
    storage.write_atomic(images_url(output), listed.data)
    manifest = manifest | {"images_digest": digest, "places_digest": listed.places_digest}
    write_manifest(output, manifest)
    return manifest, resized


_SAME = ("image_id", "caption")


def _warn_about_resized(ledger: Ledger, resized: Sequence[int], names: pa.ChunkedArray) -> None:
    """Name the images that are finished although their files have changed since."""
    size = ledger.layout.chunk_size
    finished = [names[number].as_py() for number in resized if ledger.done[number // size]]
    if finished:
        logger.warning(
            "the files of %s changed after they were annotated (%s%s); their records stay as they "
            "are, another output would have the new ones",
            plural(len(finished), "image"),
            ", ".join(finished[:_NUM_NAMED]),
            ", …" if len(finished) > _NUM_NAMED else "",
        )


def _images_before(output: str) -> pa.Table:
    """The images that a run was begun with, as far as they are known: ids, captions, sizes."""
    if storage.exists(images_url(output)):
        return read_table(images_url(output))
    tables = [
        read_table(storage.join(output, name), columns=["image_id", "caption"])
        for name in storage.list_files(output, ".parquet")
    ]
    return pa.concat_tables(tables)


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
