"""Checks a data set against all that its format promises and says where it does not hold."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from pad_pipeline import storage
from pad_pipeline.dataset.findings import Findings, Problem, Tally
from pad_pipeline.dataset.manifest import MANIFEST, State, read_manifest, state_of
from pad_pipeline.dataset.reader import DAMAGED_SHARD, schema_problem
from pad_pipeline.dataset.row_checks import check_phrases, check_regions, check_rows
from pad_pipeline.errors import UserError, first_line
from pad_pipeline.progress import track
from pad_pipeline.storage.parquet import ParquetFile

OFF_LIMIT = 0.05
"""Largest fraction of all masks that may lie off their boxes as the segmenter's own mistakes."""
OFF_ALLOWED = 2
"""So many may in any case: a fraction of a few masks says nothing."""

_BATCH_ROWS = 32  # with its temporary arrays in the processor's cache


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """What a validation found.

    `problems` make the data set wrong, `warnings` may be mistakes; both list the first few of each
    kind, and the counts beside them count all. `mask_inside_box` is the fraction of all mask pixels
    that lie in their region's box grown by a tenth on each side, None where there is no mask pixel.
    """

    url: str
    state: State
    num_shards: int
    num_images: int
    num_regions: int
    images_by_status: dict[str, int]
    problems: tuple[Problem, ...]
    num_problems: dict[str, int]
    warnings: tuple[Problem, ...]
    num_warnings: dict[str, int]
    mask_inside_box: float | None

    @property
    def ok(self) -> bool:
        """Whether no problem was found; warnings do not count."""
        return not self.num_problems


def validate(url: str) -> ValidationReport:
    """Reads every row of every shard once and checks it; memory grows only with the ids.

    Checked: manifest, checksums, schema, unique ids, status against labels and error, phrases
    within their captions, finite boxes and scores in range, and of each mask that it decodes,
    covers its image and has its stated area.
    A mask that lies off its box, or less than half in it, is a warning, as SAM makes some of these;
    where more than one in twenty lie off theirs, boxes and masks do not belong together. Raises
    `UserError` only where `url` is no data set at all.
    """
    if not storage.exists(url):
        raise UserError(f"expected a data set of PAD records at {url}, but nothing is there")
    names = storage.list_files(url, ".parquet")
    manifest = read_manifest(url)
    if not names and not manifest:
        raise UserError(f"{url} is not a data set of PAD records: no manifest and no *.parquet")
    problems, warnings, tally = Findings(), Findings(), Tally()
    stated = {shard["name"]: shard for shard in manifest.get("shards", [])}
    version = manifest.get("schema_version")
    rows = {
        name: _check_shard(url, name, stated.get(name), version, problems, warnings, tally)
        for name in track(names, len(names), "checking shards")
    }
    if manifest:
        _check_manifest(manifest, stated, rows, problems)
    else:
        warnings.add("no manifest", f"{MANIFEST} is missing, so nothing says what should be here")
    if tally.num_masks_off > max(OFF_ALLOWED, OFF_LIMIT * tally.num_masks):
        problems.add(
            "masks off their boxes",
            f"{tally.num_masks_off:,} of {tally.num_masks:,} masks have no pixel in or near their "
            "boxes: boxes and masks do not belong together",
        )
    pixels = tally.mask_pixels
    return ValidationReport(
        url=url,
        state=state_of(manifest),
        num_shards=len(names),
        num_images=sum(rows.values()),
        num_regions=tally.num_regions,
        images_by_status={name: tally.statuses[name] for name in sorted(tally.statuses)},
        problems=tuple(problems.listed),
        num_problems=dict(problems.counts.most_common()),
        warnings=tuple(warnings.listed),
        num_warnings=dict(warnings.counts.most_common()),
        mask_inside_box=tally.mask_pixels_inside / pixels if pixels else None,
    )


def _check_shard(
    url: str,
    name: str,
    stated: dict[str, Any] | None,
    version: int | None,
    problems: Findings,
    warnings: Findings,
    tally: Tally,
) -> int:
    """Checks one shard and returns the number of its rows that could be read."""
    data = storage.read_bytes(storage.join(url, name))
    if stated is not None and hashlib.sha256(data).hexdigest() != stated.get("sha256"):
        problems.add("checksum", "its sha256 differs from the manifest", name)
    num_rows = 0
    try:
        file = ParquetFile(data)
        different = schema_problem(file.schema_arrow, version)
        if different:
            problems.add("schema", f"it {different}", name)
            return file.metadata.num_rows
        for batch in file.iter_batches(batch_size=_BATCH_ROWS):
            batch.validate(full=True)
            num_rows += batch.num_rows
            check_rows(batch, name, problems, tally)
            check_phrases(batch, name, problems)
            check_regions(batch, name, problems, warnings, tally)
    except DAMAGED_SHARD as error:
        problems.add("unreadable shard", first_line(error), name)
    return num_rows


def _check_manifest(
    manifest: dict[str, Any],
    stated: dict[str, dict[str, Any]],
    rows: dict[str, int],
    problems: Findings,
) -> None:
    state = state_of(manifest)
    if state == "unknown":
        problems.add("manifest", f'its state is {manifest.get("state")!r}, not "finished"')
    for name, shard in stated.items():
        if name not in rows:
            problems.add("missing shard", "the manifest names it, but it is not there", name)
        elif shard.get("rows") != rows[name]:
            problems.add(
                "row count",
                f"{rows[name]:,} rows, where the manifest has {shard.get('rows')}",
                name,
            )
    num_images, num_shards = manifest.get("num_images"), manifest.get("num_shards")
    total = sum(rows.values())
    if not isinstance(num_images, int) or (state == "running" and total > num_images):
        problems.add("row count", f"{total:,} rows of {num_images} images that the run began with")
    if state != "finished":
        return
    for name in rows.keys() - stated.keys():
        problems.add("unknown shard", "the manifest does not name it", name)
    if total != num_images:
        problems.add(
            "row count", f"{total:,} rows for {num_images} images: each must have exactly one"
        )
    if num_shards is not None and num_shards != len(stated):
        problems.add("manifest", f"it counts {num_shards} shards, but lists {len(stated)}")
