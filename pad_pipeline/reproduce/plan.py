"""Many runs, here one after the other or several at once elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

_Task = TypeVar("_Task")
_Found = TypeVar("_Found")


class WorkOnRay(Protocol):
    """What works on a plan with several workers: `on_ray.work_on_ray` with its options."""

    def __call__(
        self, prepare: Callable[[], Callable[[_Task], _Found]], plan: Sequence[_Task], /
    ) -> Iterator[tuple[_Task, _Found]]:
        """As `work`."""
        ...


def work(
    prepare: Callable[[], Callable[[_Task], _Found]],
    plan: Sequence[_Task],
    work_on_ray: WorkOnRay | None,
) -> Iterator[tuple[_Task, _Found]]:
    """Each task of the plan and what was found, as they come.

    `prepare` gives what works on a task; it and the tasks can be pickled. Without `work_on_ray`
    this process works on one after the other.
    """
    if work_on_ray is not None:
        yield from work_on_ray(prepare, plan)
        return
    do = prepare()
    for task in plan:
        yield task, do(task)
