"""What the stages of a run did, by stage: images, failures, time, queue."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_STEPS_PER_FACTOR_OF_E = 20


@dataclass(slots=True)
class PassCount:
    """Calls of a model, each of which is one pass as a rule, and the images in them.

    Grounding DINO makes a pass more where the tags of a batch need more prompts than fit in one.
    """

    passes: int = 0
    images: int = 0

    def add(self, images: int, passes: int = 1) -> None:
        """Count what was done."""
        self.passes += passes
        self.images += images

    def take(self) -> PassCount:
        """What was counted since the last call."""
        taken = PassCount(self.passes, self.images)
        self.passes = self.images = 0
        return taken

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        each = round(self.images / self.passes, 2) if self.passes else 0.0
        return {"passes": self.passes, "images": self.images, "images_per_pass": each}


@dataclass(frozen=True, slots=True)
class StageTiming:
    """One chunk's way through one operator, and what the models in it did meanwhile."""

    stage: str
    seconds: float
    images: int
    failed: int
    busy_s: float | None = None
    """The chunk's share of the worker's time where others were in hand as well; None for all."""
    passes: Mapping[str, PassCount] = field(default_factory=dict)


@dataclass
class StageMetrics:
    """One operator's work in this run. Times of chunks are kept in classes of 5 % width."""

    images: int = 0
    failed: int = 0
    chunks: int = 0
    busy_s: float = 0.0
    waiting: int = 0
    """Chunks that wait before the stage now."""
    _waiting_sum: int = 0
    _waiting_count: int = 0
    _times: Counter[int] = field(default_factory=Counter)

    def add(self, timing: StageTiming) -> None:
        """Count one chunk."""
        self.images += timing.images
        self.failed += timing.failed
        self.chunks += 1
        self.busy_s += timing.seconds if timing.busy_s is None else timing.busy_s
        step = math.log(max(timing.seconds, 1e-6)) * _STEPS_PER_FACTOR_OF_E
        self._times[round(step)] += 1

    def sample_queue(self, waiting: int) -> None:
        """Note how many chunks wait before the stage."""
        self.waiting = waiting
        self._waiting_sum += waiting
        self._waiting_count += 1

    def chunk_s(self, quantile: float) -> float:
        """The time of a chunk that this share of the chunks stays below, in seconds; 0 for none."""
        wanted, seen = quantile * self.chunks, 0
        for step, count in sorted(self._times.items()):
            seen += count
            if seen >= wanted:
                return math.exp(step / _STEPS_PER_FACTOR_OF_E)
        return 0.0

    def to_dict(self, elapsed_s: float, workers: int) -> dict[str, Any]:
        """Plain values; the busy share is that of `workers` over `elapsed_s`."""
        return {
            "images": self.images,
            "failed": self.failed,
            "workers": workers,
            "busy_s": round(self.busy_s, 3),
            "busy_share": round(min(self.busy_s / max(elapsed_s * workers, 1e-9), 1.0), 4),
            "images_per_s_and_worker": round(self.images / self.busy_s, 3) if self.busy_s else None,
            "chunk_s_median": round(self.chunk_s(0.5), 4),
            "chunk_s_p95": round(self.chunk_s(0.95), 4),
            "waiting_chunks": self.waiting,
            "waiting_chunks_mean": round(self._waiting_sum / max(self._waiting_count, 1), 2),
        }


@dataclass
class RunMetrics:
    """All stages of a run; `workers` gives the most workers of each, in the stages' order."""

    workers: Mapping[str, int]
    stages: dict[str, StageMetrics] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    """Time of the workers by what it went into: decode, tag, detect, suppress, segment. Where
    several chunks are in flight, these times overlap."""
    passes: dict[str, PassCount] = field(default_factory=dict)
    """The passes of each model."""

    def __post_init__(self) -> None:
        """A row for every stage, whether it has worked or not."""
        self.stages = {name: StageMetrics() for name in self.workers}

    def add(self, timings: Iterable[StageTiming], seconds: Mapping[str, float]) -> None:
        """Count a chunk that has passed all stages."""
        for timing in timings:
            self.stages[timing.stage].add(timing)
            for name, count in timing.passes.items():
                self.passes.setdefault(name, PassCount()).add(count.images, count.passes)
        self.seconds.update(seconds)

    def sample_queue(self, waiting: Mapping[str, int]) -> None:
        """Note how many chunks wait before each stage."""
        for name, metrics in self.stages.items():
            metrics.sample_queue(waiting.get(name, 0))

    def passes_to_dict(self) -> dict[str, dict[str, float]]:
        """Plain values by model."""
        return {name: count.to_dict() for name, count in self.passes.items()}

    def to_dict(self, elapsed_s: float) -> dict[str, dict[str, Any]]:
        """Plain values by stage."""
        return {
            name: metrics.to_dict(elapsed_s, self.workers[name])
            for name, metrics in self.stages.items()
        }
