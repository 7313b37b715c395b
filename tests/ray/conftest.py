"""One small local Ray for all tests of this folder."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray on this machine, shut down at the end."""
    import ray

    # Ray gives its workers the least of a busy machine, on which tests would wait for them.
    os.environ.setdefault("RAY_worker_niceness", "0")
    # Ray Train looks every two seconds whether workers have ended, which short runs wait for.
    os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.2")
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def ray_address(local_ray: None) -> str:
    """Where commands join that Ray, which takes them less time than starting another."""
    import ray

    return ray.get_runtime_context().gcs_address
