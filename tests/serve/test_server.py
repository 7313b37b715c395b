"""The HTTP server around the routes: its address, loading, and its end, with real signals."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import UserError
from pad_pipeline.ports import listen
from pad_pipeline.serve import server
from tests.serve.service import Annotate, Service, cause, chain, png

PNG = {"content-type": "image/png"}


def nothing() -> None:
    pass


def hosted(
    scenario: Callable[[httpx.AsyncClient, Service], Awaitable[Any]],
    annotate: Annotate | None = None,
    load: Callable[[], None] = nothing,
) -> list[str]:
    """What was announced and how it ended, while `scenario` talks to a server that is hosted."""
    events: list[str] = []

    async def run() -> None:
        service = Service(annotate)
        service.admission.state = "loading"
        with listen("127.0.0.1", 0) as listening:
            url = f"http://127.0.0.1:{listening.getsockname()[1]}"
            hosting = asyncio.create_task(
                server.run_until_stopped(
                    service.app, listening, service.admission, load, lambda: events.append("ready")
                )
            )
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                await scenario(client, service)
            await hosting
            events.append("ended")

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        asyncio.run(asyncio.wait_for(run(), 60))
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return events


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


async def reachable(client: httpx.AsyncClient) -> None:
    while True:
        try:
            await client.get("/healthz")
            return
        except httpx.ConnectError:
            await asyncio.sleep(0.01)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def test_while_the_models_load_it_is_alive_and_not_ready() -> None:
    loaded = threading.Event()

    async def scenario(client: httpx.AsyncClient, service: Service) -> None:
        await reachable(client)
        assert cause(await client.get("/readyz")) == (503, "loading")
        answer = await client.post("/annotate", content=png(), headers=PNG)
        assert cause(answer) == (503, "loading")
        loaded.set()
        await until(lambda: service.admission.state == "ready")
        answer = await client.post("/annotate", content=png(), headers=PNG)
        assert answer.status_code == 200
        send(signal.SIGTERM)

    assert hosted(scenario, load=lambda: bool(loaded.wait(30)) or None) == ["ready", "ended"]


def test_an_end_while_the_models_load_does_not_wait_for_them() -> None:
    loaded = threading.Event()

    async def scenario(client: httpx.AsyncClient, service: Service) -> None:
        await reachable(client)
        send(signal.SIGINT)

    start_s = time.monotonic()
    try:
        assert hosted(scenario, load=lambda: bool(loaded.wait(50)) or None) == ["ended"]
    finally:
        loaded.set()
    assert time.monotonic() - start_s < 40


def test_models_that_cannot_be_loaded_end_it_with_their_sentence() -> None:
    def load() -> None:
        raise UserError("there is no model")

    async def scenario(client: httpx.AsyncClient, service: Service) -> None:
        return

    with pytest.raises(UserError, match="there is no model"):
        hosted(scenario, load=load)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_at_the_end_what_was_accepted_is_answered_and_new_ones_are_refused(number: int) -> None:
    release = asyncio.Event()

    async def annotate(sample: Sample) -> Sample:
        await release.wait()
        return await chain()(sample)

    async def scenario(client: httpx.AsyncClient, service: Service) -> None:
        await reachable(client)
        await until(lambda: service.admission.state == "ready")
        accepted = [
            asyncio.create_task(client.post("/annotate", content=png(), headers=PNG))
            for _ in range(3)
        ]
        await until(lambda: service.admission.num_admitted == 3)
        send(number)
        await until(lambda: service.admission.state == "draining")
        answer = await client.post("/annotate", content=png(), headers=PNG)
        assert cause(answer) == (503, "draining")
        assert cause(await client.get("/readyz")) == (503, "draining")
        assert not any(task.done() for task in accepted)
        release.set()
        assert [task.status_code for task in await asyncio.gather(*accepted)] == [200] * 3

    assert hosted(scenario, annotate) == ["ready", "ended"]


def test_a_second_signal_ends_it_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_LAST_BYTES_TIMEOUT_S", 1)

    async def annotate(sample: Sample) -> Sample:
        await asyncio.sleep(50)
        return sample

    async def scenario(client: httpx.AsyncClient, service: Service) -> None:
        await reachable(client)
        await until(lambda: service.admission.state == "ready")
        lost = asyncio.create_task(client.post("/annotate", content=png(), headers=PNG))
        await until(lambda: service.admission.num_admitted == 1)
        send(signal.SIGINT)
        await until(lambda: service.admission.state == "draining")
        send(signal.SIGINT)
        [end] = await asyncio.gather(lost, return_exceptions=True)
        assert isinstance(end, httpx.TransportError) or end.status_code == 500

    start_s = time.monotonic()
    assert hosted(scenario, annotate) == ["ready", "ended"]
    assert time.monotonic() - start_s < 40
