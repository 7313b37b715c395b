"""Annotates the failed images of a finished data set again; what succeeds replaces its failed row.

They are a run of their own under OUTPUT/_retry, as safe against interruption as any. Its records
are then put into the shards one by one; meanwhile the data set counts as unfinished.
"""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from pad_pipeline import storage
from pad_pipeline.annotate.ledger import Ledger
from pad_pipeline.annotate.listing import list_given
from pad_pipeline.annotate.report import RunReport, count_shards
from pad_pipeline.annotate.run import SUMMARY, annotate_rows
from pad_pipeline.annotate.run_files import list_images
from pad_pipeline.annotate.shard_layout import layout_of
from pad_pipeline.dataset.manifest import (
    read_manifest,
    require_manifest,
    require_run,
    write_manifest,
)
from pad_pipeline.dataset.writer import read_table, write_table
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.identity import from_manifest
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.errors import UserError
from pad_pipeline.records import as_version
from pad_pipeline.sources import ManifestRow
from pad_pipeline.storage.locks import only_run_on

logger = logging.getLogger(__name__)

RETRY = "_retry"


def retry_failed(
    output: str,
    changes: Mapping[str, Any] | None = None,
    *,
    stages: Sequence[StageSpec] | None = None,
    ray_address: str | None = None,
    ray_logs: bool = False,
    console: Console | None = None,
) -> RunReport:
    """Annotate the failed images of the finished data set at `output` again, and only those.

    The config is the one that the data set was made with; `changes` are fields that shape the run
    and not the records. Rows of images that fail again have the new error. Raises
    `UserError` where the data set is not finished, or its source or models are not there any more.
    """
    output = storage.absolute(output)
    require_run(output)  # before a lock is written into a folder that is not a data set
    with only_run_on(output):
        manifest = require_manifest(output)
        url = storage.join(output, RETRY)
        report = _result(url)
        if report is None:
            if manifest["state"] != "finished":
                raise UserError(
                    f"{output} is not finished: rerun the original `annotate` command to finish "
                    "it, then run `retry-failed`"
                )
            config = dataclasses.replace(
                from_manifest(manifest), **{"max_failed_share": 1.0, **(changes or {})}
            )
            rows = _failed_rows(output, manifest, config)
            if not rows:
                logger.info(
                    "nothing to retry in %s: no failed image is still in the source", output
                )
                return _report(output, manifest, None)
            _remove_stale_retry(url, rows)
            logger.info("annotating %s failed images again", f"{len(rows):,}")
            annotate_rows(
                rows,
                url,
                config,
                provenance={"source": manifest["source"], "given": manifest.get("given", {})},
                stages=stages,
                ray_address=ray_address,
                ray_logs=ray_logs,
                console=console,
            )
            report = _result(url)
            assert report is not None, "the retry has not finished"
        _merge(output, url, manifest)
        whole = _report(output, manifest, report)
        storage.write_json(storage.join(output, SUMMARY), whole.to_dict())
        return whole


def _result(url: str) -> dict[str, Any] | None:
    """The summary of the retry, where it has finished."""
    if read_manifest(url).get("state") != "finished":
        return None
    return json.loads(storage.read_bytes(storage.join(url, SUMMARY)))


def _failed_rows(
    output: str, manifest: Mapping[str, Any], config: AnnotateConfig
) -> list[ManifestRow]:
    """The rows of the source whose images have failed; those that it has lost are named."""
    failed: set[str] = set()
    for name in storage.list_files(output, ".parquet"):
        table = read_table(storage.join(output, name), columns=["image_id", "status"])
        is_failed = pc.equal(table["status"], "failed")
        failed |= set(table.filter(is_failed)["image_id"].to_pylist())
    if not failed:
        return []
    listed = list_given(
        manifest["source"],
        config,
        captions=manifest.get("captions"),
        images=manifest.get("images"),
    )
    rows = [row for row in listed if row.image_id in failed]
    lost = sorted(failed - {row.image_id for row in rows})
    if lost:
        logger.warning(
            "%s failed images are not in %s any more and stay failed: %s",
            f"{len(lost):,}",
            manifest["source"],
            ", ".join(lost[:5]) + (", …" if len(lost) > 5 else ""),
        )
    return rows


def _remove_stale_retry(url: str, rows: Sequence[ManifestRow]) -> None:
    """Remove an interrupted retry of other images: the source has changed since."""
    manifest = read_manifest(url)
    if not manifest:
        return
    now = list_images(rows, manifest["rows_per_shard"])
    if manifest["images_digest"] != now.content_digest:
        storage.remove_tree(url)


def _merge(output: str, url: str, manifest: Mapping[str, Any]) -> None:
    """Put the records of the retry in the place of the failed ones; again has no effect."""
    retried: dict[str, tuple[pa.Table, int]] = {}
    for name in storage.list_files(url, ".parquet"):
        table = as_version(read_table(storage.join(url, name)), manifest["schema_version"])
        for position, image_id in enumerate(table["image_id"].to_pylist()):
            retried[image_id] = (table, position)
    unfinished = {k: v for k, v in manifest.items() if k != "shards"} | {"state": "running"}
    write_manifest(output, unfinished)
    layout = layout_of(manifest)
    for shard in range(layout.num_shards):
        place = storage.join(output, layout.shard_name(shard))
        table = read_table(place)
        names = table["image_id"].to_pylist()
        status = table["status"].to_pylist()
        new = [
            retried[name][0].slice(retried[name][1], 1)
            if state == "failed" and name in retried
            else None
            for name, state in zip(names, status, strict=True)
        ]
        if not any(row is not None for row in new):
            continue
        rows = [table.slice(i, 1) if row is None else row for i, row in enumerate(new)]
        merged = pa.concat_tables(rows).combine_chunks()
        write_table(place, merged, row_group_size=layout.rows_per_shard)
    num_chunks = -(-layout.num_images // layout.chunk_size)
    Ledger(output, layout, dict(unfinished), np.ones(num_chunks, dtype=bool)).finish({})
    storage.remove_tree(url)


def _report(output: str, manifest: Mapping[str, Any], retry: Mapping[str, Any] | None) -> RunReport:
    """The whole data set's counts with the times of the retry."""
    nothing: dict[str, Any] = {
        "images_this_run": 0,
        "seconds": 0.0,
        "images_per_s": 0.0,
        "seconds_by_stage": {},
        "passes_by_stage": {},
        "stages": {},
    }
    return RunReport(
        output=output,
        state="finished",
        num_images=manifest["num_images"],
        **count_shards(output),
        **{name: (retry or nothing).get(name, nothing[name]) for name in nothing},
    )
