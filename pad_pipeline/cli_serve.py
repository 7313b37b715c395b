"""The command `serve`: the service until it is told to end."""

from __future__ import annotations

import sys
from typing import Annotated, Literal

from tyro.conf import arg

from pad_pipeline.cli_reports import say
from pad_pipeline.config import AnnotateConfig
from pad_pipeline.serve.config import ServiceConfig


def serve(
    config: Annotated[AnnotateConfig, arg(name="")],
    service: Annotated[ServiceConfig, arg(name="")],
    preset: Literal["paper", "demo"] = "paper",
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> None:
    """Annotate images over HTTP, on Ray Serve, with the stages of `annotate`.

    POST /annotate takes an image and answers its record, or with ?render=1 its picture; /docs lists
    the rest. Ctrl-C or SIGTERM: what was accepted is answered, then the command ends.

    Args:
        config: The stages, as for `annotate`.
        service: The HTTP side.
        preset: As for `annotate`.
        ray_address: Ray cluster to join; without it the one that runs here, else a local start.
        ray_logs: Show Ray's own messages.
    """
    from pad_pipeline.serve.service import serve as run

    del preset  # it has chosen the defaults already, see main()
    run(
        config,
        service,
        ray_address=ray_address,
        ray_logs=ray_logs,
        announce=_announce,
    )


def _announce(url: str) -> None:
    say(f"ready at {url}: POST /annotate, see {url}/docs")
    sys.stdout.flush()  # whoever reads a pipe waits for this line
