"""Batches hold what is pending when the stage is free, and an error concerns its batch alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from pad_pipeline.engine.sample import Sample
from pad_pipeline.serve.batching import DynamicBatcher


def sample(number: int) -> Sample:
    return Sample(image_id=f"{number}", uri="")


class Stage:
    """Notes what comes together; each call waits until it is let go on."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.may_go = asyncio.Semaphore(0)

    async def __call__(self, samples: list[Sample]) -> list[Sample]:
        self.calls.append([one.image_id for one in samples])
        await self.may_go.acquire()
        return samples


def play(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario(Stage())

    asyncio.run(asyncio.wait_for(run(), 30))


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_what_comes_while_the_stage_is_busy_goes_together() -> None:
    async def scenario(stage: Stage) -> None:
        batcher = DynamicBatcher(stage, size=4, wait_s=0.0)
        tasks = []
        for number in range(7):
            tasks.append(asyncio.create_task(batcher(sample(number))))
            await settle()  # one after the other, each a while after the one before
        assert stage.calls == [["0"]]
        for _ in range(3):
            stage.may_go.release()
            await settle()
        assert stage.calls == [["0"], ["1", "2", "3", "4"], ["5", "6"]]
        found = await asyncio.gather(*tasks)
        assert [one.image_id for one in found] == [f"{number}" for number in range(7)]

    play(scenario)


def test_the_first_waits_for_others_and_a_full_batch_does_not() -> None:
    async def scenario(stage: Stage) -> None:
        batcher = DynamicBatcher(stage, size=3, wait_s=60.0)
        tasks = [asyncio.create_task(batcher(sample(number))) for number in range(2)]
        await settle()
        assert stage.calls == []
        tasks.append(asyncio.create_task(batcher(sample(2))))
        stage.may_go.release()
        await asyncio.gather(*tasks)
        assert stage.calls == [["0", "1", "2"]]

    play(scenario)


def test_after_a_pause_it_goes_on() -> None:
    async def scenario(stage: Stage) -> None:
        batcher = DynamicBatcher(stage, size=3, wait_s=0.01)
        for number in range(2):
            stage.may_go.release()
            assert (await batcher(sample(number))).image_id == f"{number}"
            await settle()
        assert stage.calls == [["0"], ["1"]]

    play(scenario)


def test_an_error_is_that_of_its_batch_alone() -> None:
    async def scenario(_: Stage) -> None:
        async def fail_for_0(samples: list[Sample]) -> list[Sample]:
            if samples[0].image_id == "0":
                raise ValueError("no")
            return samples

        batcher = DynamicBatcher(fail_for_0, size=2, wait_s=60.0)
        found = await asyncio.gather(
            *[batcher(sample(n)) for n in range(4)], return_exceptions=True
        )
        assert [type(one) for one in found] == [ValueError, ValueError, Sample, Sample]

    play(scenario)


def test_a_cancelled_sample_is_left_out() -> None:
    async def scenario(stage: Stage) -> None:
        batcher = DynamicBatcher(stage, size=4, wait_s=0.0)
        tasks = [asyncio.create_task(batcher(sample(0)))]
        await settle()
        tasks += [asyncio.create_task(batcher(sample(number))) for number in range(1, 4)]
        await settle()
        tasks[0].cancel()
        tasks[2].cancel()
        stage.may_go.release()
        stage.may_go.release()
        found = await asyncio.gather(tasks[1], tasks[3])
        assert [one.image_id for one in found] == ["1", "3"]
        assert stage.calls == [["0"], ["1", "3"]]
        for task in (tasks[0], tasks[2]):
            with pytest.raises(asyncio.CancelledError):
                await task

    play(scenario)


def test_a_stage_that_loses_a_sample_is_an_error_for_its_batch() -> None:
    async def scenario(_: Stage) -> None:
        async def lose_one(samples: list[Sample]) -> list[Sample]:
            return samples[1:]

        batcher = DynamicBatcher(lose_one, size=2, wait_s=60.0)
        found = await asyncio.gather(
            *[batcher(sample(n)) for n in range(2)], return_exceptions=True
        )
        assert [type(one) for one in found] == [ValueError, ValueError]

    play(scenario)
