"""A warning where the cluster is too small, or others use it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import ray

from pad_pipeline.engine import ray_resources
from pad_pipeline.engine.config import demo
from pad_pipeline.engine.plan import plan
from pad_pipeline.engine.ray_resources import warn_if_insufficient_resources
from pad_pipeline.engine.ray_session import Cluster


@pytest.mark.parametrize(("num_cpus", "warns"), [(2, True), (4, False)])
def test_too_few_slots_for_the_pools_are_logged(
    caplog, monkeypatch: pytest.MonkeyPatch, num_cpus: int, warns: bool
) -> None:
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": float(num_cpus)})
    specs = plan(replace(demo(), device="cpu", layout="pools"))
    warn_if_insufficient_resources(Cluster(num_cpus=num_cpus, num_gpus=0), specs)
    assert ("reserve 3.5 CPU slots and the cluster has 2" in caplog.text) is warns
    assert bool(caplog.records) is warns


@pytest.mark.parametrize(("free", "warns"), [((1.0, 4.0), False), ((1.0, 2.0, 2.0), True)])
def test_slots_that_others_use_are_logged_unless_they_are_free_soon(
    caplog, monkeypatch: pytest.MonkeyPatch, free: tuple[float, ...], warns: bool
) -> None:
    answers = iter(free)
    monkeypatch.setattr(ray_resources, "_SETTLE_S", 0.15)
    monkeypatch.setattr(ray, "available_resources", lambda: {"CPU": next(answers, free[-1])})
    specs = plan(replace(demo(), device="cpu", layout="pools"))
    warn_if_insufficient_resources(Cluster(num_cpus=4, num_gpus=0), specs)
    expected = "reserve 3.5 CPU slots, and others use all but 2 of the cluster's 4: waiting"
    assert (expected in caplog.text) is warns
    assert bool(caplog.records) is warns


@pytest.mark.parametrize(("chunk_size", "most"), [(1, 16), (32, 16), (64, 8), (128, 4), (2048, 4)])
def test_fewer_large_chunks_wait_than_small_ones(chunk_size: int, most: int) -> None:
    from pad_pipeline.engine.ray_backpressure import most_waiting

    assert most_waiting(chunk_size) == most
