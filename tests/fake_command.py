"""`pad-pipeline` with the fake chain as its models: nothing waits for torch to be imported.

    python -m tests.fake_command annotate SOURCE OUTPUT --preset demo

Arguments, signals, Ray, data set and messages are the real ones. Two environment variables make a
run last until something has happened to it: `FAKE_PAUSE_S`, the seconds that each stage takes for
an image, and `FAKE_HOLD_AT`, the id of an image over which the last stage never ends.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import time
from copy import copy
from dataclasses import replace
from functools import partial

from pad_pipeline.annotate import run
from pad_pipeline.cli.main import main
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import Seconds, SharedStage, Stage
from tests import fakes


class Delayed:
    """A stage that first pauses for each image, and never ends where it meets `hold_at`."""

    def __init__(
        self,
        seconds: Seconds,
        *,
        make: partial[Stage],
        pause_s: float,
        hold_at: str | None,
    ) -> None:
        self._stage = make(seconds)
        self._pause_s = pause_s
        self._hold_at = hold_at

    def twin(self, seconds: Seconds) -> Delayed:
        twin = copy(self)
        assert isinstance(self._stage, SharedStage)
        twin._stage = self._stage.twin(seconds)
        return twin

    def __call__(self, samples: list[Sample]) -> list[Sample]:
        time.sleep(self._pause_s * len(samples))
        while any(sample.image_id == self._hold_at for sample in samples):
            time.sleep(1)
        return self._stage(samples)


def plan(config: AnnotateConfig, *, num_gpus: float = 0) -> list[StageSpec]:
    """The operators of a run in the layout of `config`, as the engine's own `plan` gives them."""
    specs = fakes.pools() if config.layout == "pools" else fakes.fused()
    pause_s = float(os.environ.get("FAKE_PAUSE_S", "0"))
    hold_at = os.environ.get("FAKE_HOLD_AT")
    return [
        replace(
            spec,
            make=partial(
                Delayed,
                make=partial(spec.make),
                pause_s=pause_s,
                hold_at=hold_at if spec is specs[-1] else None,
            ),
            in_flight=config.in_flight or 1,
        )
        for spec in specs
    ]


if __name__ == "__main__":
    faulthandler.register(signal.SIGUSR1)  # writes to stderr where all threads are
    run.plan = plan
    main()
