"""The command `serve`: the service until it is told to end."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import arg

from pad_pipeline.cli.reports import say
from pad_pipeline.engine.config import PRESETS, AnnotateConfig
from pad_pipeline.errors import UserError
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


def application(arguments: Mapping[str, str]) -> Any:
    """What a RayService names as its `import_path`: the service for Ray Serve's own HTTP side.

    `arguments["preset"]` is the preset and `arguments["options"]` the command's other options in
    one line; host, port and those about Ray have no effect. Raises `UserError` where they are not
    as they must be.
    """
    from pad_pipeline.serve.ingress import application as build

    preset, options = arguments.get("preset", "paper"), arguments.get("options", "")
    if preset not in PRESETS:
        raise UserError(f"no preset is called {preset!r}; there are {', '.join(PRESETS)}")
    parse = functools.partial(_configs, config=PRESETS[preset](), service=ServiceConfig())
    try:
        config, service = tyro.cli(parse, args=shlex.split(options))
    except SystemExit as stop:
        raise UserError(f"`pad-pipeline serve` does not take these options: {options}") from stop
    return build(config, service)


def _configs(
    config: Annotated[AnnotateConfig, arg(name="")],
    service: Annotated[ServiceConfig, arg(name="")],
) -> tuple[AnnotateConfig, ServiceConfig]:
    return config, service


def _announce(url: str) -> None:
    say(f"ready at {url}: POST /annotate, see {url}/docs")
    sys.stdout.flush()  # whoever reads a pipe waits for this line
