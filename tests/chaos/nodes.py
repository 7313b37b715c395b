"""A Ray cluster of several nodes on this machine, whose nodes are killed and replaced."""

from __future__ import annotations

import random
from typing import Any

import psutil
from ray.cluster_utils import Cluster

from tests.chaos import processes

NUM_WORKER_NODES = 2
CPUS_PER_NODE = 3
_OBJECT_STORE_BYTES = 100 << 20
# A node that is gone is noticed after three seconds instead of Ray's fifteen.
_HEALTH = {"health_check_period_ms": 1000, "health_check_failure_threshold": 3}


class Nodes:
    """A head that also holds the driver, and `NUM_WORKER_NODES` that may die."""

    def __init__(self) -> None:
        head = {"num_cpus": 1, "include_dashboard": False, "_system_config": _HEALTH}
        size = {"object_store_memory": _OBJECT_STORE_BYTES}
        self._cluster = Cluster(initialize_head=True, head_node_args={**head, **size})
        self._size: dict[str, Any] = {"num_cpus": CPUS_PER_NODE, **size}
        self._nodes: list[Any] = []
        self.replace()

    @property
    def address(self) -> str:
        """The head's host:port."""
        return self._cluster.address

    def lose_one(self, rng: random.Random) -> None:
        """Kill the raylet of a worker node with all that runs below it."""
        node = self._nodes.pop(rng.randrange(len(self._nodes)))
        [raylet] = node.all_processes["raylet"]
        workers = processes.below(raylet.process.pid)
        processes.kill([psutil.Process(raylet.process.pid), *workers])
        self._cluster.remove_node(node, allow_graceful=False)

    def replace(self) -> None:
        """Start what is missing, as the manager of a cluster does."""
        while len(self._nodes) < NUM_WORKER_NODES:
            self._nodes.append(self._cluster.add_node(**self._size))

    def shut_down(self) -> None:
        """End all nodes."""
        self._cluster.shutdown()
