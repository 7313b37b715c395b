"""The progress of a run while it goes: a bar on a terminal, else a log line every few seconds."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from pad_pipeline.progress import format_duration

logger = logging.getLogger(__name__)

LINE_INTERVAL_S = 10.0


@dataclass
class ProgressLog:
    """Counts committed chunks and shows them with the rate and the time left."""

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
