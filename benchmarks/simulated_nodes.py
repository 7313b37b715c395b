"""Ray on this machine with several nodes whose GPUs are simulated, processes kept ready."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from unittest import mock

import common

READY_TIMEOUT_S = 600.0


class SimulatedCluster:
    """Ray with nodes that declare GPUs; each node is a few processes of this machine."""

    def __init__(self, num_gpus: int, gpus_per_node: int, *, cold: bool) -> None:
        self._cold = cold
        whole, rest = divmod(num_gpus, gpus_per_node)
        self._gpus = [gpus_per_node] * whole + ([rest] if rest else [])

    def __enter__(self) -> int:
        """Start it and wait until all is up; returns how many processes are ready."""
        import ray
        from ray.cluster_utils import Cluster

        # Nodes that share two cores answer late without being dead.
        settings = {"health_check_timeout_ms": 60_000, "health_check_failure_threshold": 20}
        cpus = [gpus + 2 for gpus in self._gpus]
        ready = {"RAY_enable_worker_prestart": "1", "RAY_preload_python_modules": "ray.data"}
        # a node starts so many processes at a time as it has cores
        with (
            mock.patch.dict(os.environ, {} if self._cold else ready),
            mock.patch("multiprocessing.cpu_count", return_value=max(cpus)),
        ):
            self._cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": cpus[0],
                    "num_gpus": self._gpus[0],
                    "include_dashboard": False,
                    "object_store_memory": 2**29,
                    "_system_config": settings,
                },
            )
            for num_cpus, num_gpus in zip(cpus[1:], self._gpus[1:], strict=True):
                self._cluster.add_node(
                    num_cpus=num_cpus, num_gpus=num_gpus, object_store_memory=2**28
                )
        ray.init(address=self._cluster.address, logging_level=logging.ERROR, log_to_driver=False)
        return self._await_processes(0 if self._cold else sum(cpus))

    def _await_processes(self, num_expected: int) -> int:
        """Wait until so many processes are ready and the machine is at rest."""
        end_s = time.monotonic() + READY_TIMEOUT_S
        while (common.busy_share() or 0.0) > 0.2 or _ready_processes() < num_expected:
            if time.monotonic() > end_s:
                raise SystemExit(
                    f"{_ready_processes()} of {num_expected} processes are ready and the machine "
                    "does not come to rest; run this on an idle one"
                )
        return _ready_processes()

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()


def _ready_processes() -> int:
    """Processes of Ray's that wait for work on this machine."""
    count = 0
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # it has ended
            count += path.read_bytes().startswith(b"ray::IDLE")
    return count
