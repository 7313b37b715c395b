"""Several stages in one process as one, with a stream of the GPU and a bound on decoded pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

from pad_pipeline.engine.metrics import PassCount
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import ModelStage, Seconds


@dataclass
class Chain:
    """Several stages as one, in one process: pixels pass between them, so images decode once.

    `cut` parts a chunk where its pixels would take too much memory; a part goes through all stages
    before the next is decoded. `new_stream` makes what a thread computes in: a stream of the GPU.
    """

    stages: Sequence[ModelStage]
    cut: Callable[[list[Sample]], list[list[Sample]]] = lambda samples: [samples]
    new_stream: Callable[[], AbstractContextManager[Any]] = nullcontext

    def __post_init__(self) -> None:
        """Take a stream."""
        self._stream = self.new_stream()

    def twin(self, seconds: Seconds) -> Chain:
        """The same chain for another thread: it shares the models and has a stream of its own."""
        return replace(self, stages=[stage.twin(seconds) for stage in self.stages])

    def take_passes(self) -> Mapping[str, PassCount]:
        """The passes of each stage's model since the last call."""
        return {stage.name: stage.passes.take() for stage in self.stages if stage.decode}

    def __call__(self, samples: list[Sample], /) -> list[Sample]:
        """Do the steps in order."""
        parts = self.cut(samples)
        done: list[Sample] = []
        for part in parts:
            with self._stream:
                for stage in self.stages:
                    part = stage(part)
            done += part
            if len(parts) > 1:
                for sample in part:
                    sample.image = None
        return done
