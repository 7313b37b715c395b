"""The command's `WorkerLog` as an actor: workers send to it, the driver shows what it holds."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ray
import ray.exceptions
from ray.actor import ActorHandle

from pad_pipeline.engine.worker_log import (
    ForwardingHandler,
    LogMessage,
    WorkerLog,
    forward_to,
)

logger = logging.getLogger(__name__)

CALL_TIMEOUT_S = 5.0
POLL_S = 1.0
_NAMESPACE = "pad-pipeline"


def forward_logs(actor: ActorHandle) -> ForwardingHandler:
    """Send this worker's log messages to the actor of the command's `WorkerLog`."""

    def send(message: LogMessage) -> None:
        try:
            # The call is waited for: what a worker says before it dies has arrived then.
            ray.get(actor.add.remote(message), timeout=CALL_TIMEOUT_S)
        except ray.exceptions.RayError:
            # The command that would show it has ended: it stays in Ray's log files.
            sys.stderr.write(f"{message.text}\n")

    return forward_to(send)


@contextmanager
def shown_worker_log() -> Iterator[ActorHandle]:
    """The actor of a new `WorkerLog`, whose messages are logged here while the block lasts.

    It takes no CPU slot.
    """
    remote = ray.remote(WorkerLog).options(num_cpus=0, max_restarts=-1)
    actor: ActorHandle = remote.remote()  # pyright: ignore[reportAssignmentType]
    stop = show_messages(actor)
    try:
        yield actor
    finally:
        stop()
        ray.kill(actor)


def lasting_worker_log(name: str) -> ActorHandle:
    """The actor of the `WorkerLog` of this name on the cluster, where it stays for the next call.

    For applications of Ray Serve, which outlive the process that deploys them.
    """
    remote = ray.remote(WorkerLog).options(
        name=name,
        namespace=_NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
    )
    return remote.remote()  # pyright: ignore[reportReturnType]


def show_messages(actor: ActorHandle) -> Callable[[], None]:
    """Log here what the actor of a `WorkerLog` takes, until the function that is returned is
    called."""
    ended = threading.Event()

    def show(*, is_last: bool) -> None:
        try:
            messages = ray.get(actor.take.remote(is_last=is_last), timeout=CALL_TIMEOUT_S)
        except ray.exceptions.RayError as error:
            logger.debug("the log of the workers cannot be read: %s", error)
            return
        for message in messages:
            message.write()

    def watch() -> None:
        while not ended.wait(POLL_S):
            show(is_last=False)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()

    def stop() -> None:
        ended.set()
        thread.join()
        show(is_last=True)

    return stop
