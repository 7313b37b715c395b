"""Starts the viewer: takes the port, makes the index, serves until it is stopped."""

from __future__ import annotations

import errno
import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.view.app import make_app
from pad_pipeline.view.pictures import Pictures
from pad_pipeline.view.runs import read_runs
from pad_pipeline.view.source import DataSet
from pad_pipeline.view.viewer import Viewer

logger = logging.getLogger(__name__)


def open_viewer(
    url: str,
    *,
    images: str | None = None,
    runs: Sequence[str] = (),
    service: str | None = None,
) -> Viewer:
    """Everything that the pages need, the index made.

    Raises `UserError` where the data set, the image root or a run is not there.
    """
    if images is not None and not storage.exists(images):
        raise UserError(f"expected the images at {images}, but nothing is there; see --images")
    if service is not None and not service.startswith(("http://", "https://")):
        raise UserError(f"expected an address such as http://127.0.0.1:8000, found {service!r}")
    found = [run for folder in runs for run in read_runs(folder)]
    distinct = {}
    for run in found:  # every analysis brings the random projector along
        distinct.setdefault((run.name, tuple(run.images)), run)
    return Viewer(DataSet(url), Pictures(images), list(distinct.values()), service)


def take_port(host: str, port: int) -> socket.socket:
    """A socket that listens; `UserError` where the port is taken or the address is not ours."""
    if not 0 <= port <= 65535:
        raise UserError(f"expected a port from 0 to 65535, found {port}")
    try:
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, socket.SOCK_STREAM)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            taken.bind(address)
        except OSError:
            taken.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise UserError(
                f"port {port} of {host} is taken by another program: choose another with --port"
            ) from error
        if error.errno == errno.EACCES:
            raise UserError(
                f"port {port} may not be used by this account: choose one from 1024 on with --port"
            ) from error
        raise UserError(
            f"{host} is no address of this machine ({error.strerror or error}): leave --host out, "
            "or give 0.0.0.0 for all of its addresses"
        ) from error
    return taken


def serve(
    viewer: Viewer, listening: socket.socket, host: str, ready: Callable[[str], None]
) -> None:
    """Answers until Ctrl-C or SIGTERM; `ready` is called with the address."""
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        make_app(viewer, host), log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    listening.listen(128)
    ready(f"http://{shown}:{port}")
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        logger.info("stopped")
