"""The stages as deployments of Ray Serve, and the calls that reach their replicas."""

from __future__ import annotations

import asyncio
import logging
import urllib.request
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
import ray.exceptions
from ray import serve
from ray.actor import ActorHandle
from ray.serve import exceptions as serve_exceptions
from ray.serve.api import RunTarget
from ray.serve.handle import DeploymentHandle

from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_errors import describe_cause
from pad_pipeline.engine.sample import Sample
from pad_pipeline.errors import UserError
from pad_pipeline.serve.api_error import ApiError
from pad_pipeline.serve.config import ServiceConfig
from pad_pipeline.serve.dispatcher import StageCalls, WorkerLost
from pad_pipeline.serve.replica import StageReplica

HEALTH_CHECK_PERIOD_S = 2.0
READY_PAUSE_S = 1.0
UPSCALE_DELAY_S = 10.0
"""A burst that is shorter ends before another worker has loaded its model."""
DRAIN_TIMEOUT_S = 120.0
_QUIET_LOGS = {"log_level": "ERROR", "enable_access_log": False}
_METRICS_TIMEOUT_S = 5.0


def stage_application(
    spec: StageSpec, service: ServiceConfig, *, hang_after_s: float, log: ActorHandle | None = None
) -> Any:
    """The bound deployment of one stage, with the replicas of its pool, by load.

    The replicas' log messages go to the actor `log`; without it to Ray's log files alone.
    """
    pool = spec.pool
    resources: dict[str, float] = {"num_cpus": pool.cpus}
    if pool.gpus:
        resources["num_gpus"] = pool.gpus
    options: dict[str, Any] = {
        "name": spec.name,
        "ray_actor_options": resources,
        # All may queue at one replica: requests that are queued elsewhere poll the replicas for
        # capacity, which takes time from their work.
        "max_ongoing_requests": max(service.max_queued, 2 * spec.batch_size),
        "health_check_period_s": HEALTH_CHECK_PERIOD_S,
        "graceful_shutdown_wait_loop_s": 0.1,
        "graceful_shutdown_timeout_s": DRAIN_TIMEOUT_S,
        "logging_config": _QUIET_LOGS,
    }
    if pool.min_workers < pool.max_workers:
        options["autoscaling_config"] = {
            "min_replicas": pool.min_workers,
            "max_replicas": pool.max_workers,
            # more than a full batch is for another replica
            "target_ongoing_requests": spec.batch_size,
            "upscale_delay_s": UPSCALE_DELAY_S,
        }
    else:
        options["num_replicas"] = pool.max_workers
    return serve.deployment(**options)(StageReplica).bind(
        spec, batch_wait_s=service.batch_wait_s, hang_after_s=hang_after_s, log=log
    )


def deploy(applications: Mapping[str, Any]) -> dict[str, DeploymentHandle]:
    """Start the applications, wait until all have loaded their models, and return their handles.

    Ray must be initialised. Raises `UserError` where a stage cannot be built on its worker.
    """
    serve.start(proxy_location="Disabled", logging_config=_QUIET_LOGS)
    targets = [
        RunTarget(target=application, name=name, route_prefix=None, logging_config=_QUIET_LOGS)
        for name, application in applications.items()
    ]
    try:
        handles = serve.run_many(targets)
    except (RuntimeError, ray.exceptions.RayError) as error:
        raise UserError(f"a stage could not be started: {describe_cause(error)}") from error
    return dict(zip(applications, handles, strict=True))


def delete(names: Sequence[str]) -> None:
    """End the applications, and Serve itself where it has no others."""
    for name in names:
        serve.delete(name)
    if not serve.status().applications:
        serve.shutdown()


def silence_logs() -> None:
    """Ray Serve's messages in this process go to its log files alone."""
    logging.getLogger("ray.serve").setLevel(logging.CRITICAL)


def stage_calls(name: str, handle: DeploymentHandle) -> StageCalls:
    """The calls that send samples to the replicas behind a handle."""
    return StageCalls(name, _remote_call(handle.together), _remote_call(handle.alone))


def _remote_call(method: Any) -> Callable[[Sample], Awaitable[Sample]]:
    async def call(sample: Sample) -> Sample:
        try:
            found = await method.remote(replace(sample, image=None))
        except ray.exceptions.RayTaskError:
            raise
        except (ray.exceptions.RayError, serve_exceptions.DeploymentUnavailableError) as error:
            raise WorkerLost(describe_cause(error)) from error
        # the encoded bytes are kept here: workers need not send them back
        return replace(found, data=sample.data)

    return call


async def wait_until_ready(handle: DeploymentHandle) -> None:
    """Return when a replica behind the handle has its model."""
    while True:
        try:
            return await handle.ready.remote()
        except (ray.exceptions.RayError, serve_exceptions.DeploymentUnavailableError):
            await asyncio.sleep(READY_PAUSE_S)


async def metrics() -> str:
    """Prometheus' text of the Ray node that this process is on; raises `ApiError` (503)."""
    return await asyncio.to_thread(_read_metrics)


def _read_metrics() -> str:
    here = ray.get_runtime_context().get_node_id()
    [node] = [node for node in ray.nodes() if node["NodeID"] == here]
    url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=_METRICS_TIMEOUT_S) as answer:
            return answer.read().decode()
    except OSError as error:
        raise ApiError(503, "no_metrics", f"Ray's metrics cannot be read now: {error}") from error
