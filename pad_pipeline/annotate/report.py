"""The outcome of a run, counted from its shards."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pad_pipeline import storage
from pad_pipeline.storage.parquet import ParquetFile

MISSING = "read: FileNotFoundError"
"""The cause of an image that the source names and that is not there."""


NUM_FIRST_FAILED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """The outcome of a run. Counts are those of the whole data set, times those of this run."""

    output: str
    state: str
    """`finished` or `interrupted`."""
    num_images: int
    num_ok: int
    num_empty: int
    num_failed: int
    num_regions: int
    num_unique_tags: int
    failures: Mapping[str, int]
    """Failed images by stage and type of the error."""
    first_failed: tuple[str, ...]
    """The ids of the first failed images, at most `NUM_FIRST_FAILED`."""
    images_this_run: int
    seconds: float
    """Wall time of this run, models' loading included."""
    images_per_s: float
    """Rate of this run from when the first images went into the models."""
    seconds_by_stage: Mapping[str, float]
    """Time that the workers spent in each stage, summed over workers; where several chunks are in
    flight, these times overlap."""
    passes_by_stage: Mapping[str, Mapping[str, float]]
    """Passes of each model in this run, the images in them, and images per pass."""
    stages: Mapping[str, Mapping[str, Any]]
    """What each operator did in this run, see `engine.metrics.StageMetrics`."""

    @property
    def num_missing(self) -> int:
        """Failed images that the source names and that are not there."""
        return self.failures.get(MISSING, 0)

    @property
    def failed_share(self) -> float:
        """The share of the images that are there and have failed (0–1)."""
        there = self.num_images - self.num_missing
        return (self.num_failed - self.num_missing) / there if there else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def causes(table: pa.Table) -> list[str]:
    """Stage and type of every error in the column `error`."""
    errors = table["error"].drop_null().to_pylist()
    return [f"{error['stage']}: {error['type']}" for error in errors]


def count_shards(output: str) -> dict[str, Any]:
    """Counts of a finished data set, read back from its shards one at a time."""
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    tags: set[str] = set()
    failed: list[str] = []
    num_regions = 0
    for name in storage.list_files(output, ".parquet"):
        shard = ParquetFile(storage.read_bytes(storage.join(output, name)))
        table = shard.read(columns=["image_id", "status", "error", "labels.list.element.tag"])
        statuses.update(table["status"].to_pylist())
        failures.update(causes(table))
        if len(failed) < NUM_FIRST_FAILED:
            failed += table.filter(pc.equal(table["status"], "failed"))["image_id"].to_pylist()
        regions = pc.struct_field(pc.list_flatten(table["labels"]), "tag")
        num_regions += len(regions)
        tags |= set(pc.unique(regions).to_pylist())
    return {
        "num_ok": statuses["ok"],
        "num_empty": statuses["empty"],
        "num_failed": statuses["failed"],
        "num_regions": num_regions,
        "num_unique_tags": len(tags),
        "failures": dict(failures.most_common()),
        "first_failed": tuple(failed[:NUM_FIRST_FAILED]),
    }
