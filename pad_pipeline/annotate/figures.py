"""What the stages of a run did, by stage: images, failures, time, queue."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

_STEPS_PER_FACTOR_OF_E = 20


class Passage(Protocol):
    """One chunk's way through one operator."""

    @property
    def stage(self) -> str: ...
    @property
    def seconds(self) -> float: ...
    @property
    def images(self) -> int: ...
    @property
    def failed(self) -> int: ...


@dataclass
class StageFigures:
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

    def add(self, passage: Passage) -> None:
        """Count one chunk."""
        self.images += passage.images
        self.failed += passage.failed
        self.chunks += 1
        self.busy_s += passage.seconds
        step = math.log(max(passage.seconds, 1e-6)) * _STEPS_PER_FACTOR_OF_E
        self._times[round(step)] += 1

    def look(self, waiting: int) -> None:
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
class RunFigures:
    """All stages of a run; `workers` gives the most workers of each, in the stages' order."""

    workers: Mapping[str, int]
    stages: dict[str, StageFigures] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)
    """Time of the workers by what it went into: decode, tag, detect, suppress, segment."""

    def __post_init__(self) -> None:
        """A row for every stage, whether it has worked or not."""
        self.stages = {name: StageFigures() for name in self.workers}

    def add(self, passages: Iterable[Passage], seconds: Mapping[str, float]) -> None:
        """Count a chunk that has passed all stages."""
        for passage in passages:
            self.stages[passage.stage].add(passage)
        self.seconds.update(seconds)

    def look(self, waiting: Mapping[str, int]) -> None:
        """Note how many chunks wait before each stage."""
        for name, figures in self.stages.items():
            figures.look(waiting.get(name, 0))

    def to_dict(self, elapsed_s: float) -> dict[str, dict[str, Any]]:
        """Plain values by stage."""
        return {
            name: figures.to_dict(elapsed_s, self.workers[name])
            for name, figures in self.stages.items()
        }
