"""Images that kill their worker: found, set aside by name, and the rest goes on.

A crash in native code, memory that runs out or a computation that never ends takes the whole
worker with it, so no `except` sees it. A worker that was started again therefore records what it
begins and ends in the run's `CrashTracker`, which outlives it. A chunk over which workers died
twice is taken apart: each image runs once alone; one that kills its worker again is quarantined,
with an error in its record. What is left of the chunk then runs together, as it would have without
the image, so that records do not depend on who died when.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from pad_pipeline.engine.sample import Sample
from pad_pipeline.records import RecordError

DEATHS_ALONE = 2
"""Workers that may die over one image alone before it is quarantined."""
DEATHS_TOGETHER = 2
"""Workers that may die over a chunk whose images all passed alone; then each stays alone."""
DEATHS_LOADING = 3
"""Workers that may die in a row while they load a stage's model."""
HOPELESS_AFTER = 5
"""A stage that kills its worker over so many images in a row is at fault itself."""

QUARANTINED = "Quarantined"
WORKER_DIED = "WorkerDied"
"""Types of error: of an image that was set aside, of a stage that was given up."""


class CrashTracker:
    """What workers of one run have begun and not ended. One instance per run, outliving workers."""

    def __init__(self, hopeless_after: int = HOPELESS_AFTER) -> None:
        self._hopeless_after = hopeless_after
        self._begun: Counter[tuple] = Counter()
        self._hung: dict[tuple, float] = {}
        self._in_a_row: dict[str, set[str]] = {}

    def begin(self, *what: str | int) -> int:
        """Note that `what` begins; returns how often it was begun before and not ended."""
        before = self._begun[what]
        self._begun[what] += 1
        return before

    def end(self, *what: str | int) -> None:
        """Note that the worker has survived `what`."""
        self._begun.pop(what, None)
        self._hung.pop(what, None)

    def hung(self, seconds: float, *what: str | int) -> None:
        """Note that the worker ends itself: for so many seconds nothing has moved in `what`."""
        self._hung[what] = seconds
        self._begun[what] = max(self._begun[what], 1)

    def deaths(self, *what: str | int) -> tuple[int, float | None]:
        """How often workers died over `what`, and after how many seconds one gave it up, if so."""
        return self._begun[what], self._hung.get(what)

    def quarantined(self, stage: str, image_id: str) -> int:
        """Note an image set aside; returns how many in a row make `stage` hopeless, else 0."""
        in_a_row = self._in_a_row.setdefault(stage, set())
        in_a_row.add(image_id)
        return len(in_a_row) if len(in_a_row) >= self._hopeless_after else 0

    def survived(self, stage: str, image_id: str) -> None:
        """Note that an image passed `stage` alone."""
        self.end("image", stage, image_id)
        self._in_a_row.pop(stage, None)


class CrashTrackerClient(Protocol):
    """`CrashTracker` as workers reach them, wherever they are."""

    def begin(self, *what: str | int) -> int: ...
    def end(self, *what: str | int) -> None: ...
    def deaths(self, *what: str | int) -> tuple[int, float | None]: ...
    def quarantined(self, stage: str, image_id: str) -> int: ...
    def survived(self, stage: str, image_id: str) -> None: ...


@dataclass
class IsolatingStage:
    """A stage on a worker that was started again after a death.

    `watch` is called with what begins, and without arguments at its end.
    """

    name: str
    stage: Callable[[list[Sample]], list[Sample]]
    tracker: CrashTrackerClient
    watch: Callable[..., None] = lambda *what: None

    def __call__(self, chunk: int, samples: list[Sample]) -> list[Sample] | RecordError:
        """The samples with their results or errors; why the stage is hopeless, where it is."""
        name = self.name
        if not self.tracker.begin("chunk", name, chunk):
            samples = self._run(samples, "chunk", name, chunk)
        else:
            alone: list[Sample] = []
            for sample in samples:
                if sample.error is not None:
                    alone.append(sample)
                    continue
                alone += self._probe(replace(sample))
                sample.error = _quarantine(alone[-1])
                if sample.error and (number := self.tracker.quarantined(name, sample.image_id)):
                    return self._hopeless(number)
            if self.tracker.begin("together", name, chunk) < DEATHS_TOGETHER:
                samples = self._run(samples, "together", name, chunk)
            else:
                samples = alone
            self.tracker.end("together", name, chunk)
        self.tracker.end("chunk", name, chunk)
        return samples

    def _run(self, samples: list[Sample], *what: str | int) -> list[Sample]:
        self.watch(*what)
        results = self.stage(samples)
        self.watch()
        return results

    def _probe(self, sample: Sample) -> list[Sample]:
        """The sample after it ran alone, or with why it must not run again."""
        what = ("image", self.name, sample.image_id)
        deaths, hung_s = self.tracker.deaths(*what)
        if hung_s is not None:
            message = f"no end after {hung_s:g} s"
        elif deaths >= DEATHS_ALONE:
            message = f"it killed {deaths} workers alone: a crash in native code, or no memory left"
        else:
            self.tracker.begin(*what)
            results = self._run([sample], *what)
            self.tracker.survived(self.name, sample.image_id)
            return results
        sample.error = RecordError(stage=self.name, type=QUARANTINED, message=message)
        return [sample]

    def _hopeless(self, number: int) -> RecordError:
        return RecordError(
            stage=self.name,
            type=WORKER_DIED,
            message=f"its worker died over each of {number} images in a row (a crash in native "
            "code, or too little memory): the fault is not with the images",
        )


def _quarantine(sample: Sample) -> RecordError | None:
    """The error of a sample that was set aside; other errors come again in company."""
    return sample.error if sample.error and sample.error.type == QUARANTINED else None
