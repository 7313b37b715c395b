"""Samples whose workers die: retried a bounded number of times, their neighbours unharmed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from pad_pipeline.engine.isolation import DEATHS_ALONE, QUARANTINED
from pad_pipeline.engine.sample import Sample
from pad_pipeline.records import RecordError, Tag
from pad_pipeline.serve.dispatcher import DEATHS_IN_BATCH, Dispatcher, StageCalls, WorkerLost


@dataclass
class FakeWorkers:
    """Workers of one stage that take what waits in batches, and die over some images."""

    name: str
    deadly: set[str] = field(default_factory=set)
    deaths_left: int = 10**6
    calls: list[tuple[str, ...]] = field(default_factory=list)
    waiting: list[tuple[Sample, asyncio.Future[Sample]]] = field(default_factory=list)
    busy_alone: int = 0

    async def together(self, sample: Sample) -> Sample:
        future: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        self.waiting.append((sample, future))
        asyncio.get_running_loop().call_later(0.01, self.work)
        return await future

    def work(self) -> None:
        batch, self.waiting = self.waiting, []
        if not batch:
            return
        dies = self.dies([sample for sample, _ in batch])
        for sample, future in batch:
            if dies:
                future.set_exception(WorkerLost("gone"))
            else:
                future.set_result(self.found(sample))

    async def alone(self, sample: Sample) -> Sample:
        self.busy_alone += 1
        assert self.busy_alone == 1, "two samples were alone at a time"
        await asyncio.sleep(0.001)
        self.busy_alone -= 1
        if self.dies([sample]):
            raise WorkerLost("gone")
        return self.found(sample)

    def dies(self, samples: list[Sample]) -> bool:
        self.calls.append(tuple(sample.image_id for sample in samples))
        dies = self.deaths_left > 0 and any(s.image_id in self.deadly for s in samples)
        self.deaths_left -= dies
        return dies

    def found(self, sample: Sample) -> Sample:
        sample.tags = (*sample.tags, Tag(self.name, 1.0))
        return sample


def dispatch(workers: list[FakeWorkers], *names: str) -> list[Sample]:
    async def run() -> list[Sample]:
        stages = [StageCalls(one.name, one.together, one.alone) for one in workers]
        dispatcher = Dispatcher(stages, pause_s=0)
        samples = [Sample(image_id=name, uri="") for name in names]
        return await asyncio.gather(*map(dispatcher, samples))

    return asyncio.run(asyncio.wait_for(run(), 10))


def test_samples_go_through_the_stages_in_order() -> None:
    [sample] = dispatch([FakeWorkers("tag"), FakeWorkers("detect")], "a")
    assert [tag.tag for tag in sample.tags] == ["tag", "detect"]


def test_an_error_ends_the_way() -> None:
    class Failing(FakeWorkers):
        def found(self, sample: Sample) -> Sample:
            sample.error = RecordError(self.name, "ValueError", "no")
            return sample

    later = FakeWorkers("detect")
    [sample] = dispatch([Failing("tag"), later], "a")
    assert sample.error is not None
    assert later.calls == []


def test_a_worker_that_dies_once_costs_no_image() -> None:
    workers = FakeWorkers("tag", deadly={"a"}, deaths_left=1)
    samples = dispatch([workers], "a", "b", "c")
    assert [sample.error for sample in samples] == [None] * 3
    assert workers.calls == [("a", "b", "c")] * 2


def test_an_image_that_kills_its_workers_is_found_and_its_neighbours_are_answered() -> None:
    workers = FakeWorkers("tag", deadly={"b"})
    samples = dispatch([workers], "a", "b", "c")
    assert [sample.error is None for sample in samples] == [True, False, True]
    assert samples[1].error is not None
    assert (samples[1].error.stage, samples[1].error.type) == ("tag", QUARANTINED)
    assert workers.calls.count(("b",)) == DEATHS_ALONE
    assert workers.calls.count(("a", "b", "c")) == DEATHS_IN_BATCH
    assert len(workers.calls) == DEATHS_IN_BATCH + DEATHS_ALONE + 2


def test_a_burst_of_deaths_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    names = [f"{index}" for index in range(20)]
    with caplog.at_level("WARNING"):
        dispatch([FakeWorkers("tag", deadly={"3"}, deaths_left=1)], *names)
    assert [record.getMessage() for record in caplog.records] == [
        "a worker of tag was lost; its images are tried again"
    ]
