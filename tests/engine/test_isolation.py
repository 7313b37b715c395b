"""Images that kill their worker, without processes: a death is an exception here."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from pad_pipeline.engine.crash_tracker import CrashTracker
from pad_pipeline.engine.isolation import QUARANTINED, WORKER_DIED, IsolatingStage
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.turns import Turns
from pad_pipeline.records import RecordError


class Death(BaseException):
    """The end of a worker."""


class FatalStage:
    """Counts what it is given; dies over some images, and over more than it can hold at once."""

    def __init__(self, killers: set[str] = frozenset(), most: int = 100) -> None:  # type: ignore[assignment]
        self.killers, self.most = killers, most
        self.calls: list[list[str]] = []

    def __call__(self, samples: list[Sample]) -> list[Sample]:
        todo = [sample for sample in samples if sample.error is None]
        self.calls.append([sample.image_id for sample in todo])
        if len(todo) > self.most or self.killers & {sample.image_id for sample in todo}:
            raise Death
        for sample in todo:
            sample.width = len(todo)
        return samples


def samples(names: str) -> list[Sample]:
    return [Sample(image_id=name, uri=name) for name in names]


def until_it_ends(stage: FatalStage, tracker: CrashTracker, names: str) -> tuple[list[Sample], int]:
    """The chunk's outcome and how many workers died over it, each of which was started again."""
    for deaths in range(100):
        try:
            outcome = IsolatingStage("segment", stage, tracker)(7, samples(names))
        except Death:
            continue
        assert not isinstance(outcome, RecordError), outcome
        return outcome, deaths
    raise AssertionError("no end")


def errors(outcome: list[Sample]) -> dict[str, str]:
    return {sample.image_id: sample.error.type for sample in outcome if sample.error}


def test_without_a_killer_a_chunk_runs_together_and_once() -> None:
    stage = FatalStage()
    outcome, deaths = until_it_ends(stage, CrashTracker(), "abcd")
    assert (deaths, stage.calls) == (0, [["a", "b", "c", "d"]])
    assert [sample.width for sample in outcome] == [4] * 4


@pytest.mark.parametrize("killers", ["a", "d", "bc", "ad"])
def test_killers_are_set_aside_and_the_rest_runs_together(killers: str) -> None:
    stage = FatalStage(set(killers))
    outcome, deaths = until_it_ends(stage, CrashTracker(), "abcd")
    assert errors(outcome) == dict.fromkeys(killers, QUARANTINED)
    assert [sample.image_id for sample in outcome] == list("abcd")
    rest = [sample for sample in outcome if sample.error is None]
    assert [sample.width for sample in rest] == [4 - len(killers)] * len(rest)
    assert deaths == 1 + 2 * len(killers)
    assert stage.calls[-1] == [name for name in "abcd" if name not in killers]


def test_a_chunk_that_is_too_much_at_once_runs_alone() -> None:
    stage = FatalStage(most=3)
    outcome, deaths = until_it_ends(stage, CrashTracker(), "abcd")
    assert errors(outcome) == {}
    assert [sample.width for sample in outcome] == [1] * 4
    assert deaths == 3


def test_two_deaths_for_other_reasons_change_nothing() -> None:
    tracker, stage = CrashTracker(), FatalStage()
    tracker.begin("chunk", "segment", 7)  # a worker that somebody killed in the middle
    outcome, _ = until_it_ends(stage, tracker, "ab")
    assert errors(outcome) == {}
    assert [sample.width for sample in outcome] == [2, 2]
    # what was survived is forgotten: the next death begins from nothing
    assert tracker.count_deaths("chunk", "segment", 7) == (0, None)
    assert tracker.count_deaths("image", "segment", "a") == (0, None)


def test_an_image_that_hung_once_alone_is_not_tried_again() -> None:
    tracker, stage = CrashTracker(), FatalStage()
    tracker.record_hang(30.0, "chunk", "segment", 7)
    tracker.record_hang(30.0, "image", "segment", "b")
    outcome, deaths = until_it_ends(stage, tracker, "abc")
    assert deaths == 0
    assert outcome[1].error is not None
    assert outcome[1].error.message == "no end after 30 s"
    assert ["b"] not in stage.calls


def test_errors_of_earlier_stages_stay_as_they_are() -> None:
    tracker, stage = CrashTracker(), FatalStage()
    tracker.begin("chunk", "segment", 7)
    chunk = samples("ab")
    chunk[0].error = RecordError(stage="decode", type="ImageError", message="not an image")
    outcome = IsolatingStage("segment", stage, tracker)(7, chunk)
    assert isinstance(outcome, list)
    assert errors(outcome) == {"a": "ImageError"}
    assert stage.calls == [["b"], ["b"]]


def test_a_stage_over_which_every_worker_dies_is_given_up() -> None:
    stage, tracker = FatalStage(set("abcdef")), CrashTracker(stage_at_fault_after=3)
    for _ in range(100):
        try:
            outcome = IsolatingStage("segment", stage, tracker)(7, samples("abcdef"))
            break
        except Death:
            continue
    assert isinstance(outcome, RecordError)
    assert outcome.type == WORKER_DIED
    assert "each of 3 images in a row" in outcome.message
    assert not any("d" in call for call in stage.calls[1:])


def test_a_chunk_that_is_taken_apart_has_the_worker_for_itself() -> None:
    """Its images run alone, so that a death is nobody else's; another chunk waits."""
    tracker, turns = CrashTracker(), Turns()
    tracker.begin("chunk", "segment", 7)  # the worker before this one died over it
    begun, go_on, order = threading.Event(), threading.Event(), []

    def slow(chunk: list[Sample]) -> list[Sample]:
        begun.set()
        assert go_on.wait(10)
        order.extend(sample.image_id for sample in chunk)
        return chunk

    def quick(chunk: list[Sample]) -> list[Sample]:
        order.extend(sample.image_id for sample in chunk)
        return chunk

    with ThreadPoolExecutor(2) as threads:
        suspect = IsolatingStage("segment", slow, tracker, turns=turns)
        one = threads.submit(suspect, 7, samples("ab"))
        assert begun.wait(10)
        other = threads.submit(
            IsolatingStage("segment", quick, tracker, turns=turns), 8, samples("cd")
        )
        assert not wait([other], timeout=0.2).done
        assert tracker.count_deaths("chunk", "segment", 8) == (0, None)
        go_on.set()
        outcome = one.result(10)
        assert isinstance(outcome, list)
        assert [sample.image_id for sample in outcome] == ["a", "b"]
        other.result(10)
    assert order == ["a", "b", "a", "b", "c", "d"]


def test_chunks_without_a_death_run_beside_each_other() -> None:
    tracker, turns, both = CrashTracker(), Turns(), threading.Barrier(2)

    def meet(chunk: list[Sample]) -> list[Sample]:
        both.wait(10)
        return chunk

    with ThreadPoolExecutor(2) as threads:
        list(
            threads.map(
                lambda chunk: IsolatingStage("segment", meet, tracker, turns=turns)(
                    chunk, samples("a")
                ),
                (7, 8),
            )
        )
