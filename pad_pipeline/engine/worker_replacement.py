"""Replacement of dead workers: Ray starts a new actor and gives it the calls of the dead one.

`annotate.stream` gives every stage's workers these options. The new worker (`ray_worker`) knows
that it replaces a dead one and runs its stage as an `IsolatingStage` (`isolation`), which finds the
image at fault and bounds how often workers die over the same work.
"""

from __future__ import annotations

from typing import Any

REPLACE_WHEN_DEAD: dict[str, Any] = {"max_restarts": -1, "max_task_retries": -1}
"""Options of an actor that Ray replaces when it dies, however often, and gives its calls again."""
