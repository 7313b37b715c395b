"""Whether a cluster can hold the workers of a run's stages."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

import ray

from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.ray_session import Cluster
from pad_pipeline.errors import Setting

logger = logging.getLogger(__name__)

READ_CPUS = 0.25
"""CPU slots that a task which reads images reserves."""

_SETTLE_S = 3.0
"""How long Ray may take to say that what has just ended reserves nothing any more."""


def required_cpus(specs: Sequence[StageSpec]) -> int:
    """CPU slots that the stages reserve at most, and one for reading."""
    return round(sum(spec.pool.max_workers * spec.pool.cpus for spec in specs) + 0.5) + 1


def warn_if_insufficient_resources(cluster: Cluster, specs: Sequence[StageSpec]) -> None:
    """Warn where the cluster cannot hold the stages' smallest pools at present.

    Because it is too small, or because others use it.
    """
    wanted_cpus = sum(spec.pool.min_workers * spec.pool.cpus for spec in specs)
    wanted_gpus = sum(spec.pool.min_workers * spec.pool.gpus for spec in specs)
    for what, field, wanted, there in (
        ("CPU slots", "cpus", wanted_cpus, cluster.num_cpus),
        ("GPUs", "gpus", wanted_gpus, cluster.num_gpus),
    ):
        if wanted > there:
            logger.warning(
                "the stages reserve %g %s and the cluster has %g at present: waiting for more; "
                "reduce %s (and the other stages' pools), or use %s",
                wanted,
                what,
                there,
                Setting(f"tag.pool.{field}"),
                Setting("layout", "fused"),
            )
        elif (free := _free("CPU" if field == "cpus" else "GPU", wanted)) < wanted:
            logger.warning(
                "the stages reserve %g %s, and others use all but %g of the cluster's %g: "
                "waiting until these are free",
                wanted,
                what,
                free,
                there,
            )


def _free(resource: str, wanted: float) -> float:
    """How much of a resource nobody uses, once that is enough or Ray's figures have settled."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        free = ray.available_resources().get(resource, 0.0)
        if free >= wanted or time.monotonic() > deadline:
            return free
        time.sleep(0.1)


def fits_cluster(specs: Sequence[StageSpec]) -> bool:
    """Whether all workers of all stages fit now, so that none can keep another stage's from it.

    They start at once then. Ray Data would start one of each, and the others when chunks pile up,
    so that models load twice in a row.
    """
    free = ray.available_resources()
    cpus = sum(spec.pool.max_workers * spec.pool.cpus for spec in specs) + READ_CPUS
    gpus = sum(spec.pool.max_workers * spec.pool.gpus for spec in specs)
    return cpus <= free.get("CPU", 0.0) and gpus <= free.get("GPU", 0.0)
