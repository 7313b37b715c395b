"""Which work a watchdog holds to hang; how it ends a worker is shown in tests/ray."""

from __future__ import annotations

import time

from pad_pipeline.engine.watchdog import Watchdog


def stopped(*ages_s: float | None) -> list[tuple]:
    """What is found to stand still of threads that moved so long ago; None: a thread without work.

    The limit is 100 s, which the watchdog's own thread never reaches here.
    """
    watchdog = Watchdog(100.0, lambda *what: None)
    for number, age_s in enumerate(ages_s):
        watch = watchdog.follow({})
        if age_s is not None:
            watch("chunk", number)
            watchdog._followed[-1].moved_s -= age_s
    found = watchdog._stopped()
    for followed in watchdog._followed:
        followed.work = ()
    watchdog._restart_last_resort()
    return found


def test_work_that_hangs_is_named() -> None:
    assert stopped(101.0) == [("chunk", 0)]
    assert stopped(99.0) == []
    assert stopped(None) == []


def test_work_that_moves_beside_it_is_not() -> None:
    assert stopped(101.0, 10.0, None) == [("chunk", 0)]


def test_work_that_stopped_with_it_is_named_as_well() -> None:
    """One of two chunks has stopped the GPU that both compute on."""
    assert stopped(99.0, 101.0) == [("chunk", 0), ("chunk", 1)]


def test_times_that_grow_are_a_sign_of_life() -> None:
    watchdog = Watchdog(100.0, lambda *what: None)
    seconds: dict[str, float] = {}
    watch = watchdog.follow(seconds)
    watch("chunk", 0)
    watchdog._followed[0].moved_s -= 101.0
    seconds["decode"] = 0.5
    assert watchdog._stopped() == []
    assert time.monotonic() - watchdog._followed[0].moved_s < 10.0
    watch()
