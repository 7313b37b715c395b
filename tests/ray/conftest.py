"""One small local Ray for all tests of this folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

LONGEST_FIRST = ("job", "train", "chaos", "readme", "run", "cli_run", "serve")
"""`test_*.py` here that take more than a minute: begun first, they end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, for the two processes that share the files."""

    def rank(item: pytest.Item) -> int:
        name = item.path.stem.removeprefix("test_")
        is_here = item.path.parent == Path(__file__).parent
        return LONGEST_FIRST.index(name) if is_here and name in LONGEST_FIRST else 99

    items.sort(key=rank)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Ray on this machine, shut down at the end."""
    import ray

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
