"""Runs the service: Ray, the workers of the stages, and the HTTP server in this process."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pad_pipeline.engine.build import locate_models
from pad_pipeline.engine.config import AnnotateConfig, resolve_words
from pad_pipeline.engine.device import local_gpus, resolve_device
from pad_pipeline.engine.plan import StageSpec, plan
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageLimits
from pad_pipeline.ports import listen
from pad_pipeline.serve.config import ServiceConfig, read_api_key

if TYPE_CHECKING:
    from pad_pipeline.serve.routes import Settings

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.", "::1", "localhost")


def serve(
    config: AnnotateConfig,
    service: ServiceConfig,
    *,
    stages: Sequence[StageSpec] | None = None,
    ray_address: str | None = None,
    ray_logs: bool = False,
    announce: Callable[[str], None] = lambda url: None,
) -> None:
    """Annotate images over HTTP until SIGINT or SIGTERM; then answer what was accepted and return.

    `stages` replaces the config's own plan, as for a run. Joins the Ray cluster at `ray_address`
    or the one that is there, else starts Ray on this machine. `announce` is called with the URL
    when the models are loaded. Must run in the main thread. Raises `UserError` where address, API
    key, models or cluster are not as they must be.
    """
    key = read_api_key(service)
    try:
        from pad_pipeline.serve import server  # noqa: F401 - before anything is started
    except ModuleNotFoundError as error:
        raise UserError(
            f"the service needs the package {error.name}: pip install 'pad-pipeline[serve]'"
        ) from error
    from pad_pipeline.engine import ray_resources, ray_session

    with listen(service.host, service.port) as listening, ray_session.shut_down_after():
        if key is None and not service.host.startswith(_LOOPBACK):
            logger.warning(
                "no API key is set: anyone who can reach %s can use the service", service.host
            )
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        config = resolve_device(
            resolve_words(config), cluster_gpus=cluster.num_gpus if cluster else None
        )
        if stages is None:
            config = locate_models(config)
            stages = plan(config, num_gpus=cluster.num_gpus if cluster else local_gpus(config))
        if cluster:
            ray_resources.warn_if_insufficient_resources(cluster, stages)
        else:
            ray_session.start_here(ray_resources.required_cpus(stages), verbose=ray_logs)
        logger.info("loading the models")
        settings = app_settings(config, service, key)
        asyncio.run(
            _serve(listening, stages, config, service, settings, announce, keeps_ray=bool(cluster))
        )


def app_settings(config: AnnotateConfig, service: ServiceConfig, key: str | None) -> Settings:
    """What the routes need to know of the configs."""
    from pad_pipeline.serve.routes import Settings

    return Settings(
        box_threshold=config.detect.box_threshold,
        limits=ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes),
        max_body_bytes=service.max_body_bytes,
        timeout_s=service.timeout_s,
        api_key=key,
        config=config,
    )


async def _serve(
    listening: socket.socket,
    stages: Sequence[StageSpec],
    config: AnnotateConfig,
    service: ServiceConfig,
    settings: Settings,
    announce: Callable[[str], None],
    *,
    keeps_ray: bool,
) -> None:
    from pad_pipeline.engine import ray_worker_log
    from pad_pipeline.serve import deployments, server
    from pad_pipeline.serve.admission import AdmissionControl
    from pad_pipeline.serve.app import build_app
    from pad_pipeline.serve.dispatcher import Dispatcher
    from pad_pipeline.serve.routes import Service

    deployments.silence_logs()
    address, port = listening.getsockname()[:2]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    names = {f"pad-{socket.gethostname()}-{port}-{spec.name}": spec for spec in stages}
    admission = AdmissionControl(service.max_queued)
    dispatchers: list[Dispatcher] = []

    def load() -> None:
        handles = deployments.deploy(
            {
                name: deployments.stage_application(
                    spec, service, hang_after_s=config.hang_after_s, log=log
                )
                for name, spec in names.items()
            }
        )
        dispatchers.append(
            Dispatcher(
                [deployments.stage_calls(names[name].name, one) for name, one in handles.items()]
            )
        )

    app = build_app(
        Service(lambda sample: dispatchers[0](sample), admission, settings, deployments.metrics)
    )
    with ray_worker_log.shown_worker_log() as log:
        try:
            await server.run_until_stopped(app, listening, admission, load, lambda: announce(url))
        finally:
            if keeps_ray:
                # a Ray that was started for this command takes them along when it ends
                await asyncio.to_thread(deployments.delete, list(names))
