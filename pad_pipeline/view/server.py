"""Starts the viewer: makes the index and serves until it is stopped."""

from __future__ import annotations

import logging
import secrets
import socket
from collections.abc import Callable, Sequence

import uvicorn
from fastapi import FastAPI

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.review.events import user_name
from pad_pipeline.review.log import ReviewLog, review_url
from pad_pipeline.view.evaluations import has_comparison, read_comparison
from pad_pipeline.view.pictures import Pictures
from pad_pipeline.view.reconstructions import is_vlsa_run, read_vlsa_run
from pad_pipeline.view.runs import read_runs
from pad_pipeline.view.safety import LOOPBACK
from pad_pipeline.view.source import DataSet
from pad_pipeline.view.truth.build import TruthSource, build_truth
from pad_pipeline.view.truth.queries import TruthIndex
from pad_pipeline.view.viewer import Viewer
from pad_pipeline.view.writing import WriteGuard

logger = logging.getLogger(__name__)


def open_viewer(
    url: str,
    *,
    images: str | None = None,
    runs: Sequence[str] = (),
    service: str | None = None,
    ground_truth: str | None = None,
    match: str | None = None,
    review: str | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
) -> Viewer:
    """Everything that the pages need, the index made, and the matches with a ground truth.

    `ground_truth` is COCO's instances JSON, `match` a JSON object of tag -> category. `review` is
    the file of marks, else the one beside the shards. Marking needs `token`; without one, at
    another `host` than loopback, one that is made here. Raises `UserError` where the data set, the
    image root, the truth or a run is not there.
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
    compared = [folder for folder in runs if has_comparison(folder)]
    vlsa = [folder for folder in runs if folder not in compared and is_vlsa_run(folder)]
    others = [folder for folder in runs if folder not in compared and folder not in vlsa]
    found = [run for folder in others for run in read_runs(folder)]
    distinct = {}
    for run in found:  # every analysis brings the random projector along
        distinct.setdefault((run.name, tuple(run.images)), run)
    data, truth = DataSet(url), None
    if ground_truth is not None:
        logger.info("comparing %s with %s, which takes a while the first time", url, ground_truth)
        truth = TruthIndex(build_truth(data.contents, TruthSource(ground_truth, match)))
    is_local = host in LOOPBACK
    return Viewer(
        data=data,
        pictures=Pictures(images),
        review=ReviewLog(review_url(url, review)),
        runs=list(distinct.values()),
        vlsa_runs=[read_vlsa_run(folder) for folder in vlsa],
        evaluations=[read_comparison(folder) for folder in compared],
        service=service,
        truth=truth,
        writing=WriteGuard(token or (None if is_local else secrets.token_urlsafe(24))),
        reviewer=user_name() if is_local else None,
    )


def serve(app: FastAPI, listening: socket.socket, host: str, ready: Callable[[str], None]) -> None:
    """Answers until Ctrl-C or SIGTERM; `ready` is called with the address."""
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        timeout_graceful_shutdown=3,
    )  # fmt: skip
    server = uvicorn.Server(config)
    ready(f"http://{shown}:{port}")
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        logger.info("stopped")
