"""A warning where the cluster is too small."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pad_pipeline.engine.config import demo
from pad_pipeline.engine.plan import plan
from pad_pipeline.engine.ray_resources import warn_if_insufficient_resources
from pad_pipeline.engine.ray_session import Cluster


@pytest.mark.parametrize(("num_cpus", "warns"), [(2, True), (4, False)])
def test_too_few_slots_for_the_pools_are_logged(caplog, num_cpus: int, warns: bool) -> None:
    specs = plan(replace(demo(), device="cpu", layout="pools"))
    warn_if_insufficient_resources(Cluster(num_cpus=num_cpus, num_gpus=0), specs)
    assert ("reserve 3.5 CPU slots and the cluster has 2" in caplog.text) is warns


@pytest.mark.parametrize(("chunk_size", "most"), [(1, 16), (32, 16), (64, 8), (128, 4), (2048, 4)])
def test_fewer_large_chunks_wait_than_small_ones(chunk_size: int, most: int) -> None:
    from pad_pipeline.engine.ray_backpressure import most_waiting

    assert most_waiting(chunk_size) == most
