"""The command `serve`: the service, until it is stopped."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Mapping
from typing import Annotated, Any

import tyro
from tyro.conf import arg

from pad_pipeline.cli.options import Preset, RayOptions, choose_preset
from pad_pipeline.cli.reports.output import say
from pad_pipeline.engine.config import PRESETS, AnnotateConfig
from pad_pipeline.errors import UserError
from pad_pipeline.serve.config import ServiceConfig


def serve(
    config: Annotated[AnnotateConfig, arg(name="")],
    service: Annotated[ServiceConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    preset: Preset = "paper",
) -> None:
    """Annotate images over HTTP, with the stages of `annotate`.

    POST /annotate takes an image and returns its record, or with ?render=1 its picture; /docs lists
    the rest. Ctrl-C or SIGTERM: accepted requests are finished, then the command ends.
    """
    from pad_pipeline.serve.run import serve as run

    del preset
    run(
        config,
        service,
        ray_address=ray.ray_address,
        ray_logs=ray.ray_logs,
        announce=_announce,
    )


def application(arguments: Mapping[str, str]) -> Any:
    """What a RayService names as its `import_path`: the service for Ray Serve's own HTTP side.

    `arguments["preset"]` is the preset and `arguments["options"]` the command's other options in
    one line; host, port and those about Ray have no effect. Raises `UserError` where they
    cannot be parsed or lie beyond their limits.
    """
    from pad_pipeline.serve.ingress import application as build

    preset, options = arguments.get("preset", "paper"), arguments.get("options", "")
    defaults = choose_preset(preset, PRESETS)
    parse = functools.partial(_configs, config=defaults, service=ServiceConfig())
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
    sys.stdout.flush()  # the reader of a pipe waits for this line
