"""What a run says of itself: progress while it goes, a summary at its end."""

# pyarrow.compute makes its functions at import
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pad_pipeline import storage
from pad_pipeline.storage.parquet import ParquetFile

logger = logging.getLogger(__name__)

LINE_INTERVAL_S = 10.0


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
    images_this_run: int
    seconds: float
    """Wall time of this run, models' loading included."""
    images_per_s: float
    """Rate of this run from when the first images went into the models."""
    seconds_by_stage: Mapping[str, float]
    """Time that the workers spent in each stage, summed over workers."""
    stages: Mapping[str, Mapping[str, Any]]
    """What each operator did in this run, see `engine.metrics.StageMetrics`."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


@dataclass
class ProgressLog:
    """Progress with rate and time left: a bar on a terminal, else a log line every few seconds."""

    total: int
    already: int
    console: Console
    count: int = 0
    failed: int = 0
    regions: int = 0
    _work_start_s: float | None = None
    _last_line_s: float = 0.0
    _bar: Progress | None = None
    _task: TaskID | None = None

    def __enter__(self) -> ProgressLog:
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("annotating"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self.console,
                transient=True,
            )
            self._bar.start()
            self._task = self._bar.add_task(
                "annotate", total=self.total, completed=self.already, rate="loading models"
            )
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def add(self, *, images: int, failed: int, regions: int, started_s: float) -> None:
        """Count a chunk that has just been committed; the first stage took it at `started_s`."""
        now = time.time()
        self.count += images
        self.failed += failed
        self.regions += regions
        if self._work_start_s is None:
            self._last_line_s = now
        self._work_start_s = min(started_s, self._work_start_s or started_s)
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.already + self.count, rate=self._describe())
        elif now - self._last_line_s >= LINE_INTERVAL_S:
            self._last_line_s = now
            done = self.already + self.count
            left = (self.total - done) / self.rate if self.rate else 0.0
            logger.info(
                "%s of %s images · %s · %s left",
                f"{done:,}",
                f"{self.total:,}",
                self._describe(),
                format_duration(left),
            )

    @property
    def seconds(self) -> float:
        """Since the first chunk went into the stages; 0 before."""
        return time.time() - self._work_start_s if self._work_start_s is not None else 0.0

    @property
    def rate(self) -> float:
        """Images per second since the first chunk went into the stages."""
        return self.count / max(self.seconds, 1e-9)

    def _describe(self) -> str:
        parts = [f"{self.rate:.1f} images/s"]
        if self.count:
            parts.append(f"{self.regions / self.count:.1f} regions/image")
        if self.failed:
            parts.append(f"{self.failed:,} failed")
        return " · ".join(parts)


def format_duration(seconds: float) -> str:
    """A time span as a person says it: `8 s`, `3 min 20 s`, `10 h 5 min`."""
    total = round(seconds)
    if total < 60:
        return f"{total} s"
    if total < 3600:
        return f"{total // 60} min {total % 60} s"
    return f"{total // 3600} h {total % 3600 // 60} min"


def causes(table: pa.Table) -> list[str]:
    """Stage and type of every error in the column `error`."""
    errors = table["error"].drop_null().to_pylist()
    return [f"{error['stage']}: {error['type']}" for error in errors]


def count_shards(output: str) -> dict[str, Any]:
    """Counts of a finished data set, read back from its shards one at a time."""
    statuses: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    tags: set[str] = set()
    num_regions = 0
    for name in storage.list_files(output, ".parquet"):
        shard = ParquetFile(storage.read_bytes(storage.join(output, name)))
        table = shard.read(columns=["status", "error", "labels.list.element.tag"])
        statuses.update(table["status"].to_pylist())
        failures.update(causes(table))
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
    }
