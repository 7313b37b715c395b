"""Starts the viewer: makes the index and serves until it is stopped."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Sequence

import uvicorn

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
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
        raise UserError(
            f"expected the images at {images}, but nothing is there; see ", Setting("images")
        )
    if service is not None and not service.startswith(("http://", "https://")):
        raise UserError(f"expected an address such as http://127.0.0.1:8000, found {service!r}")
    found = [run for folder in runs for run in read_runs(folder)]
    distinct = {}
    for run in found:  # every analysis brings the random projector along
        distinct.setdefault((run.name, tuple(run.images)), run)
    return Viewer(DataSet(url), Pictures(images), list(distinct.values()), service)


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
    ready(f"http://{shown}:{port}")
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        logger.info("stopped")
