"""Admission: a bounded number of images, each place released once."""

from __future__ import annotations

import asyncio

import pytest

from pad_pipeline.engine.sample import Sample
from pad_pipeline.serve.admission import AdmissionControl
from pad_pipeline.serve.api_error import ApiError
from tests.serve.service import Service, cause, chain, play, png


def opened(max_queued: int) -> AdmissionControl:
    admission = AdmissionControl(max_queued)
    admission.state = "ready"
    return admission


def test_places_are_released_after_an_error_too() -> None:
    admission = opened(3)

    def fail() -> None:
        with admission.slot() as slot:
            slot.grow(2)
            assert admission.num_admitted == 3
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert admission.num_admitted == 0


def test_more_than_there_is_room_for_is_refused_and_costs_nothing() -> None:
    admission = opened(3)
    with admission.slot() as slot:
        with pytest.raises(ApiError) as raised:
            slot.grow(3)
        assert (raised.value.status, raised.value.cause) == (429, "queue_full")
        assert admission.num_admitted == 1
        slot.grow(2)
        with pytest.raises(ApiError), admission.slot():
            pytest.fail("admitted")
        assert admission.num_admitted == 3
    assert admission.num_admitted == 0


def test_a_drained_service_is_empty_when_the_last_has_left() -> None:
    async def scenario() -> None:
        admission = opened(2)
        await asyncio.wait_for(admission.wait_until_empty(), 1)
        with admission.slot():
            waiting = asyncio.create_task(admission.wait_until_empty())
            await asyncio.sleep(0)
            admission.state = "draining"
            with pytest.raises(ApiError), admission.slot():
                pytest.fail("admitted")
            assert not waiting.done()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())


def test_a_full_queue_is_refused_until_there_is_room() -> None:
    release = asyncio.Event()
    stages = chain()

    async def annotate(sample: Sample) -> Sample:
        await release.wait()
        return await stages(sample)

    async def scenario(service: Service) -> None:
        accepted = [asyncio.create_task(service.post(content=png())) for _ in range(2)]
        while service.admission.num_admitted < 2:
            await asyncio.sleep(0.001)
        answer = await service.post(content=png())
        assert cause(answer) == (429, "queue_full")
        assert int(answer.headers["retry-after"]) > 0
        release.set()
        assert [task.status_code for task in await asyncio.gather(*accepted)] == [200, 200]
        assert (await service.post(content=png())).status_code == 200
        assert service.admission.num_admitted == 0

    play(scenario, annotate, max_queued=2)


def test_several_images_need_a_place_each() -> None:
    release = asyncio.Event()

    async def annotate(sample: Sample) -> Sample:
        await release.wait()
        return await chain()(sample)

    async def scenario(service: Service) -> None:
        accepted = asyncio.create_task(service.post(content=png()))
        while not service.admission.num_admitted:
            await asyncio.sleep(0.001)
        files = [("image", (f"{index}.png", png())) for index in range(3)]
        answer = await service.post("/annotate/batch", files=files)
        assert cause(answer) == (429, "queue_full")
        release.set()
        assert (await accepted).status_code == 200
        assert (await service.post("/annotate/batch", files=files)).status_code == 200

    play(scenario, annotate, max_queued=3)
