"""The service as an application of Ray Serve, for clusters whose Serve has the HTTP side itself."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.serve.handle import DeploymentHandle

from pad_pipeline.engine import ray_session
from pad_pipeline.engine.config import AnnotateConfig
from pad_pipeline.engine.plan import local_gpus, locate_models, plan, resolve
from pad_pipeline.serve import on_ray
from pad_pipeline.serve.admission import AdmissionControl
from pad_pipeline.serve.app import build_app
from pad_pipeline.serve.config import ServiceConfig, read_api_key
from pad_pipeline.serve.dispatch import Dispatcher
from pad_pipeline.serve.service import settings_of

logger = logging.getLogger(__name__)

NAME = "http"


@serve.ingress()
class Ingress:
    """The HTTP side on a worker: the same routes as those of the command `serve`.

    Requests are answered with 503 until each stage has a worker with its model.
    """

    def __init__(
        self,
        config: AnnotateConfig,
        service: ServiceConfig,
        names: Sequence[str],
        *handles: DeploymentHandle,
    ) -> None:
        self._admission = AdmissionControl(service.max_queued)
        calls = [on_ray.calls_of(*pair) for pair in zip(names, handles, strict=True)]
        self._app = build_app(
            Dispatcher(calls),
            self._admission,
            settings_of(config, service, read_api_key(service)),
            metrics=on_ray.metrics,
        )
        self._opening = asyncio.ensure_future(self._open(handles))

    def __serve_build_asgi_app__(self) -> Any:
        """What Ray Serve calls for the application."""
        return self._app

    async def _open(self, handles: Sequence[DeploymentHandle]) -> None:
        await asyncio.gather(*[on_ray.until_ready(handle) for handle in handles])
        self._admission.state = "ready"


def application(config: AnnotateConfig, service: ServiceConfig) -> Any:
    """The whole service as one application: the stages' deployments behind `Ingress`.

    Ray must be initialised. Host and port are those of the cluster's Serve, not the config's.
    Raises `UserError` where a model is not there.
    """
    cluster = ray_session.join(None, verbose=False)
    num_gpus = cluster.num_gpus if cluster else local_gpus(config)
    if config.device == "cuda":
        num_gpus = max(num_gpus, 1)  # nodes with GPUs may still be on their way
    config = locate_models(resolve(config, cluster_gpus=num_gpus))
    stages = {
        spec.name: on_ray.stage_application(spec, service, hang_after_s=config.hang_after_s)
        for spec in plan(config, num_gpus=num_gpus)
    }
    deployment = serve.deployment(
        Ingress,
        name=NAME,
        ray_actor_options={"num_cpus": 0},
        # beyond the queue, so that the service refuses by itself, with a reason
        max_ongoing_requests=service.max_queued + 64,
        graceful_shutdown_timeout_s=on_ray.DRAIN_TIMEOUT_S,
        health_check_period_s=on_ray.HEALTH_CHECK_PERIOD_S,
    )
    return deployment.bind(config, service, list(stages), *stages.values())
