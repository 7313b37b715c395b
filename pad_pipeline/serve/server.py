"""The HTTP server in this process: open while the models load, drained at the end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import uvicorn
from fastapi import FastAPI

from pad_pipeline.serve.admission import AdmissionControl

logger = logging.getLogger(__name__)

DRAIN_TIMEOUT_S = 600.0
_LAST_BYTES_TIMEOUT_S = 10

Result = TypeVar("Result")


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: it stops when `should_exit` is set."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run_until_stopped(
    app: FastAPI,
    listening: socket.socket,
    admission: AdmissionControl,
    load: Callable[[], None],
    announce: Callable[[], None],
) -> None:
    """Serve `app` until SIGINT or SIGTERM, then answer what was accepted and return.

    `load` runs in a thread at the beginning, while requests are answered with 503; what it raises
    ends the server and is raised here. `announce` is called when requests are admitted.
    """
    loop = asyncio.get_running_loop()
    stop, again = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, lambda: again.set() if stop.is_set() else stop.set())
    server = _Server(
        uvicorn.Config(
            app,
            log_config=None,
            log_level=logging.CRITICAL,
            access_log=False,
            lifespan="off",
            server_header=False,
            timeout_graceful_shutdown=_LAST_BYTES_TIMEOUT_S,
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        if await _finishes_first(_in_thread(load), stop):
            admission.state = "ready"
            announce()
            await _finishes_first(asyncio.ensure_future(stop.wait()), stop)
            await _drain(admission, again)
    finally:
        server.should_exit = True
        await serving


async def _finishes_first(work: asyncio.Future, stop: asyncio.Event) -> bool:
    """Whether `work` was done before `stop` was set; raises what it raised."""
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if not work.done():
        return False
    work.result()
    return True


async def _drain(admission: AdmissionControl, again: asyncio.Event) -> None:
    """Take nothing new and wait for what was accepted, or until a second signal comes."""
    admission.state = "draining"
    if admission.num_admitted:
        logger.info(
            "stopping after %d accepted images; send the signal again to stop at once",
            admission.num_admitted,
        )
    waits = [asyncio.create_task(admission.wait_until_empty()), asyncio.create_task(again.wait())]
    await asyncio.wait(waits, timeout=DRAIN_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


def _in_thread(work: Callable[[], Result]) -> asyncio.Future[Result]:
    """`work` in a thread that does not keep the process from ending."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Result] = loop.create_future()

    def settle(result: Result | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # pyright: ignore[reportArgumentType]

    def run() -> None:
        result, error = None, None
        try:
            result = work()
        except BaseException as raised:
            error = raised
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, daemon=True).start()
    return future
