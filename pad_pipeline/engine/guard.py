"""Isolation of what goes wrong: halving when memory runs out, one record for one bad image.

Whatever a model raises for an image becomes data here, so the stages need no broad `except`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from pad_pipeline.records import RecordError

Item = TypeVar("Item")
Result = TypeVar("Result")
Argument = TypeVar("Argument")

logger = logging.getLogger(__name__)

MAX_MESSAGE = 500


def describe(stage: str, error: BaseException) -> RecordError:
    """An exception as the error of a record; the message is one line of bounded length."""
    message = " ".join(str(error).split()) or "no message"
    if len(message) > MAX_MESSAGE:
        message = message[: MAX_MESSAGE - 1] + "…"
    return RecordError(stage=stage, type=type(error).__name__, message=message)


def run_guarded(
    work: Callable[[Sequence[Item]], Sequence[Result]],
    items: Sequence[Item],
    stage: str,
    free_memory: Callable[[], None] = lambda: None,
) -> list[Result | RecordError]:
    """`work(items)`, one result or error per item, in order; never raises for an item.

    A batch that raises is cut in halves until the items at fault stand alone, so one bad image
    costs at most 2·log2(batch) more calls and never a neighbour's result. `free_memory` is called
    before a retry after memory ran out.
    """
    if not items:
        return []
    try:
        results = work(items)
    except Exception as error:
        if len(items) == 1:
            return [describe(stage, error)]
        if is_out_of_memory(error):
            logger.warning(
                "%s: out of memory with a batch of %d images, trying halves; "
                "a smaller batch size avoids this",
                stage,
                len(items),
            )
        failure = error
    else:
        if len(results) != len(items):
            raise AssertionError(f"{stage}: {len(results)} results for {len(items)} images")
        return list(results)
    # Outside the except block: the traceback there keeps the failed batch's tensors alive.
    out_of_memory = is_out_of_memory(failure)
    del failure
    if out_of_memory:
        free_memory()
    middle = len(items) // 2
    return [
        *run_guarded(work, items[:middle], stage, free_memory),
        *run_guarded(work, items[middle:], stage, free_memory),
    ]


def build_guarded(
    stage: str, make: Callable[[Argument], Result], argument: Argument
) -> Result | RecordError:
    """`make(argument)`, or why it could not be made."""
    try:
        return make(argument)
    except Exception as error:
        return describe(stage, error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that host or GPU memory ran out (torch names both differently)."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and (
        "out of memory" in text or "can't allocate memory" in text
    )
