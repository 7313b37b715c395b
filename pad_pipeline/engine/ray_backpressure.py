"""Backpressure by chunks, and other bounds on what Ray Data keeps of a long run.

Ray Data bounds its queues by bytes in the object store. Chunks of small images, and records, are
too small for the object store: Ray keeps them in the driver's own memory, where a fast reader
would pile up the whole data set in front of slow models. This bound counts chunks instead. Ray Data
also keeps a kilobyte of statistics of every block to the end, which nothing here reads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray.data
from ray.data._internal.execution.backpressure_policy import (
    ENABLED_BACKPRESSURE_POLICIES,
    ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY,
)
from ray.data._internal.execution.backpressure_policy.backpressure_policy import BackpressurePolicy

if TYPE_CHECKING:
    from ray.data._internal.execution.interfaces.physical_operator import PhysicalOperator

MAX_WAITING = 16
"""Chunks that may wait behind an operator for each worker of the next one (and at the very end)."""
MAX_WAITING_IMAGES = 512
"""Images that the chunks which wait may hold, where these are large."""
FEWEST_WAITING = 4
"""Chunks that may wait however many images they hold."""

KEPT_STATISTICS = 256
"""Blocks of each operator whose statistics are kept."""

Waiting = dict[str, int]
"""Chunks that wait before each stage, by the stage's name."""

# Ray Data makes the policy by itself, so what is shared with it stands here.
_waiting: Waiting = {}
_max_waiting = MAX_WAITING


class BoundedQueues(BackpressurePolicy):
    """Stops an operator while enough of its results wait for the next one."""

    def can_add_input(self, op: PhysicalOperator) -> bool:
        """Whether the operator may begin another task."""
        _trim_statistics(op)
        return not self._is_full(op)

    def max_task_output_bytes_to_read(self, op: PhysicalOperator) -> int | None:
        """How much may be taken from the tasks that run: nothing or anything (None)."""
        return 0 if self._is_full(op) else None

    def _is_full(self, op: PhysicalOperator) -> bool:
        waiting = self._topology[op].total_enqueued_output_blocks()
        for following in op.output_dependencies:
            waiting += self._topology[following].total_enqueued_input_blocks()
            # what it has before it is this operator's output queue, which is counted already
            waiting -= self._topology[op].output_queue.num_blocks
            _waiting[_stage(following.name)] = max(waiting, 0)
        workers = sum(following.get_actor_info().running for following in op.output_dependencies)
        return waiting >= _max_waiting * max(workers, 1)


def most_waiting(chunk_size: int) -> int:
    """How many chunks of `chunk_size` images may wait for each worker of the next operator."""
    return max(FEWEST_WAITING, min(MAX_WAITING, MAX_WAITING_IMAGES // chunk_size))


def bound_queues(context: ray.data.DataContext, waiting: Waiting, chunk_size: int) -> None:
    """Add the bound to Ray Data's own; `waiting` is kept up to date while data sets run."""
    global _waiting, _max_waiting
    _waiting = waiting
    _max_waiting = most_waiting(chunk_size)
    context.set_config(
        ENABLED_BACKPRESSURE_POLICIES_CONFIG_KEY, [*ENABLED_BACKPRESSURE_POLICIES, BoundedQueues]
    )


def _trim_statistics(op: PhysicalOperator) -> None:
    """Drop those of all but the last blocks, which only `Dataset.stats()` reads."""
    kept = getattr(op, "_output_blocks_stats", [])
    if len(kept) > 2 * KEPT_STATISTICS:
        del kept[:-KEPT_STATISTICS]


def _stage(operator: str) -> str:
    """The name between the brackets of `MapBatches(name)`."""
    return operator.partition("(")[2].rstrip(")") or operator
