"""The service as an application of Ray Serve, for clusters where Serve runs the HTTP server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.actor import ActorHandle
from ray.serve.handle import DeploymentHandle

from pad_pipeline.engine import ray_session
from pad_pipeline.engine.build import locate_models
from pad_pipeline.engine.config import AnnotateConfig, resolve_words
from pad_pipeline.engine.device import local_gpus, resolve_device
from pad_pipeline.engine.plan import plan
from pad_pipeline.engine.ray_worker_log import lasting_worker_log, show_messages
from pad_pipeline.serve import deployments
from pad_pipeline.serve.admission import AdmissionControl
from pad_pipeline.serve.app import build_app
from pad_pipeline.serve.config import ServiceConfig, read_api_key
from pad_pipeline.serve.dispatcher import Dispatcher
from pad_pipeline.serve.routes import Service
from pad_pipeline.serve.run import app_settings

logger = logging.getLogger(__name__)

NAME = "http"
_WORKER_LOG = "pad-worker-log"


@serve.ingress()
class Ingress:
    """The HTTP side on a worker: the same routes as those of the command `serve`.

    Requests are answered with 503 until each stage has a worker with its model. What the stages'
    workers log stands in the log of this deployment, as do its own lines.
    """

    def __init__(
        self,
        config: AnnotateConfig,
        service: ServiceConfig,
        names: Sequence[str],
        log: ActorHandle,
        *handles: DeploymentHandle,
    ) -> None:
        _log_as_serve_does()
        show_messages(log)
        self._admission = AdmissionControl(service.max_queued)
        calls = [deployments.stage_calls(*pair) for pair in zip(names, handles, strict=True)]
        self._app = build_app(
            Service(
                Dispatcher(calls),
                self._admission,
                app_settings(config, service, read_api_key(service)),
                deployments.metrics,
            )
        )
        self._loading = asyncio.ensure_future(self._wait_for_models(handles))

    def __serve_build_asgi_app__(self) -> Any:
        """What Ray Serve calls for the application."""
        return self._app

    async def _wait_for_models(self, handles: Sequence[DeploymentHandle]) -> None:
        await asyncio.gather(*[deployments.wait_until_ready(handle) for handle in handles])
        self._admission.state = "ready"


def application(config: AnnotateConfig, service: ServiceConfig) -> Any:
    """The whole service as one application: the stages' deployments behind `Ingress`.

    Ray must be initialised. Host and port are those of the cluster's Serve, not the config's.
    Raises `UserError` where a model is not there.
    """
    cluster = ray_session.join(None, verbose=False)
    num_gpus = cluster.num_gpus if cluster else local_gpus(config)
    if config.device == "cuda":
        num_gpus = max(num_gpus, 1)  # nodes with GPUs may still be starting
    config = locate_models(resolve_device(resolve_words(config), cluster_gpus=num_gpus))
    log = lasting_worker_log(_WORKER_LOG)
    stages = {
        spec.name: deployments.stage_application(
            spec, service, hang_after_s=config.hang_after_s, log=log
        )
        for spec in plan(config, num_gpus=num_gpus)
    }
    deployment = serve.deployment(
        Ingress,
        name=NAME,
        ray_actor_options={"num_cpus": 0},
        # more than the queue, so that the service itself answers 429, with a reason
        max_ongoing_requests=service.max_queued + 64,
        graceful_shutdown_timeout_s=deployments.DRAIN_TIMEOUT_S,
        health_check_period_s=deployments.HEALTH_CHECK_PERIOD_S,
    )
    return deployment.bind(config, service, list(stages), log, *stages.values())


def _log_as_serve_does() -> None:
    """This package's messages go where Ray Serve's own of the replica go, its log file."""
    ours = logging.getLogger("pad_pipeline")
    ours.handlers = list(logging.getLogger("ray.serve").handlers)
    ours.setLevel(logging.INFO)
    ours.propagate = False
