"""Images that kill their worker: found, quarantined, and the rest of their chunk goes on.

A crash in native code, memory that runs out or a computation that never ends takes the whole
worker with it, so no `except` sees it. Ray replaces the worker (see `worker_replacement`), and the
new one runs its stage as an `IsolatingStage`. A chunk over which two workers died is taken apart:
each image runs alone; one that kills its worker twice more is quarantined, with an error in its
record. What is left of the chunk then runs together, as it would have without the image, so that
records do not depend on who died when. A chunk that is taken apart has its worker for itself: over
two chunks in flight, nobody could say which image it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pad_pipeline.engine.crash_tracker import CrashTrackerClient
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import Stage
from pad_pipeline.engine.turns import Turns
from pad_pipeline.records import RecordError

DEATHS_ALONE = 2
"""Workers that may die over one image alone before it is quarantined."""
DEATHS_TOGETHER = 2
"""Workers that may die over a chunk whose images all passed alone; then each stays alone."""
DEATHS_LOADING = 3
"""Workers that may die in a row while they load a stage's model."""

QUARANTINED = "Quarantined"
WORKER_DIED = "WorkerDied"
"""Types of error: of a quarantined image, of a stage that is given up."""


@dataclass
class IsolatingStage:
    """A stage on a worker that replaces a dead one.

    `watch` is called with the work that begins, and without arguments at its end. `turns` are those
    of all chunks of the worker.
    """

    name: str
    stage: Stage
    tracker: CrashTrackerClient
    watch: Callable[..., None] = lambda *work: None
    turns: Turns = field(default_factory=Turns)

    def __call__(self, chunk: int, samples: list[Sample]) -> list[Sample] | RecordError:
        """The samples with their results or errors, or why the stage itself is at fault."""
        with self.turns.beside_others():
            is_suspect = self.tracker.begin("chunk", self.name, chunk)
            if not is_suspect:
                samples = self._run(samples, "chunk", self.name, chunk)
                self.tracker.end("chunk", self.name, chunk)
                return samples
        with self.turns.alone():
            return self._take_apart(chunk, samples)

    def _take_apart(self, chunk: int, samples: list[Sample]) -> list[Sample] | RecordError:
        """Each image alone, then all together that are not at fault."""
        name = self.name
        alone: list[Sample] = []
        for sample in samples:
            if sample.error is not None:
                alone.append(sample)
                continue
            alone += self._probe(replace(sample))
            sample.error = _quarantine_error(alone[-1])
            if sample.error and (number := self.tracker.quarantine(name, sample.image_id)):
                return self._stage_fault(number)
        if self.tracker.begin("together", name, chunk) < DEATHS_TOGETHER:
            samples = self._run(samples, "together", name, chunk)
        else:
            samples = alone
        self.tracker.end("together", name, chunk)
        self.tracker.end("chunk", name, chunk)
        return samples

    def _run(self, samples: list[Sample], *work: str | int) -> list[Sample]:
        self.watch(*work)
        results = self.stage(samples)
        self.watch()
        return results

    def _probe(self, sample: Sample) -> list[Sample]:
        """The sample after it ran alone, or with the error of one that must not run again."""
        work = ("image", self.name, sample.image_id)
        deaths, hung_s = self.tracker.count_deaths(*work)
        if hung_s is not None:
            message = f"no end after {hung_s:g} s"
        elif deaths >= DEATHS_ALONE:
            message = f"it killed {deaths} workers alone: a crash in native code, or no memory left"
        else:
            self.tracker.begin(*work)
            results = self._run([sample], *work)
            self.tracker.clear_image(self.name, sample.image_id)
            return results
        sample.error = RecordError(stage=self.name, type=QUARANTINED, message=message)
        return [sample]

    def _stage_fault(self, number: int) -> RecordError:
        return RecordError(
            stage=self.name,
            type=WORKER_DIED,
            message=f"its worker died over each of {number} images in a row (a crash in native "
            "code, or too little memory): the fault is not with the images",
        )


def _quarantine_error(sample: Sample) -> RecordError | None:
    """The error of a quarantined sample; other errors occur again when the chunk runs together."""
    return sample.error if sample.error and sample.error.type == QUARANTINED else None
