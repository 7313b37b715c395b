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
from pad_pipeline.view.truth.build import TruthSource, build_truth
from pad_pipeline.view.truth.queries import TruthIndex
from pad_pipeline.view.viewer import Viewer

logger = logging.getLogger(__name__)


def open_viewer(
    url: str,
    *,
    images: str | None = None,
    runs: Sequence[str] = (),
    service: str | None = None,
    ground_truth: str | None = None,
    match: str | None = None,
) -> Viewer:
    """Everything that the pages need, the index made, and the matches with a ground truth.

    `ground_truth` is COCO's instances JSON, `match` a JSON object of tag -> category. Raises
    `UserError` where the data set, the image root, the truth or a run is not there.
    """
    if images is not None and not storage.exists(images):
        raise UserError(
            f"expected the images at {images}, but nothing is there; see ", Setting("images")
        )
    if service is not None and not service.startswith(("http://", "https://")):
        raise UserError(f"expected an address such as http://127.0.0.1:8000, found {service!r}")
    if match is not None and ground_truth is None:
        raise UserError(
            Setting("match"), " says which tag is which category of a ", Setting("ground_truth")
        )
    found = [run for folder in runs for run in read_runs(folder)]
    distinct = {}
    for run in found:  # every analysis brings the random projector along
        distinct.setdefault((run.name, tuple(run.images)), run)
    data, truth = DataSet(url), None
    if ground_truth is not None:
        logger.info("comparing %s with %s, which takes a while the first time", url, ground_truth)
        truth = TruthIndex(build_truth(data.contents, TruthSource(ground_truth, match)))
    return Viewer(data, Pictures(images), list(distinct.values()), service, truth)


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
