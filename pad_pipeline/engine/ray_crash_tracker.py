"""The run's `CrashTracker` as an actor, and how workers call it."""

from __future__ import annotations

from typing import Any

import ray
from ray.actor import ActorHandle

from pad_pipeline.engine import crash_tracker

CALL_TIMEOUT_S = 30.0


def start_crash_tracker() -> ActorHandle:
    """The actor of a new `CrashTracker`; it takes no CPU slot, and Ray replaces it when it dies."""
    actor = ray.remote(crash_tracker.CrashTracker).options(
        num_cpus=0, max_restarts=-1, max_task_retries=-1
    )
    return actor.remote(crash_tracker.STAGE_AT_FAULT_AFTER)  # pyright: ignore[reportReturnType]


class RemoteCrashTracker:
    """The run's `CrashTracker` in its actor; a call without an answer raises an error of Ray."""

    def __init__(self, actor: ActorHandle) -> None:
        self._actor = actor

    def begin(self, *work: str | int) -> int:
        return self._call("begin", *work)

    def end(self, *work: str | int) -> None:
        self._call("end", *work)

    def record_hang(self, seconds: float, *work: str | int) -> None:
        self._call("record_hang", seconds, *work)

    def count_deaths(self, *work: str | int) -> tuple[int, float | None]:
        return self._call("count_deaths", *work)

    def quarantine(self, stage: str, image_id: str) -> int:
        return self._call("quarantine", stage, image_id)

    def clear_image(self, stage: str, image_id: str) -> None:
        self._call("clear_image", stage, image_id)

    def _call(self, name: str, *arguments: Any) -> Any:
        return ray.get(getattr(self._actor, name).remote(*arguments), timeout=CALL_TIMEOUT_S)
