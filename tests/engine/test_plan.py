"""Which workers a run gets on which machine."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pad_pipeline.engine.config import AnnotateConfig, PoolConfig, TagConfig, demo, paper
from pad_pipeline.engine.plan import plan, size_pools


def test_auto_is_fused_on_one_gpu_or_none_and_pools_on_more() -> None:
    gpu = replace(paper(), device="cuda")
    assert [spec.name for spec in plan(gpu, num_gpus=1)] == ["annotate"]
    assert [spec.name for spec in plan(replace(demo(), device="cpu"))] == ["annotate"]
    specs = plan(gpu, num_gpus=8)
    assert [spec.name for spec in specs] == ["tag", "detect", "suppress", "segment"]
    assert [spec.keep_bytes for spec in specs] == [True, True, True, False]


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 4, 8, 64])
def test_pools_fill_the_gpus_and_never_wait_for_more(num_gpus: int) -> None:
    pools = size_pools(replace(paper(), layout="pools"), num_gpus)
    reserved = sum(pool.max_workers * pool.gpus for pool in pools.values())
    assert reserved == pytest.approx(num_gpus)
    assert pools["suppress"].gpus == 0
    if num_gpus >= 4:
        assert pools["segment"].max_workers > pools["tag"].max_workers


def sizes(config: AnnotateConfig, num_gpus: int) -> dict[str, int]:
    return {name: pool.max_workers for name, pool in size_pools(config, num_gpus).items()}


def test_costs_that_were_measured_size_the_pools() -> None:
    assert sizes(paper(), 8) == {"tag": 1, "detect": 2, "suppress": 1, "segment": 5}
    slow_detector = replace(paper(), costs="tag=0.005,detect=0.119,segment=0.067")
    assert sizes(slow_detector, 8) == {"tag": 1, "detect": 4, "suppress": 1, "segment": 3}


def test_gpus_that_the_user_reserves_are_not_given_out_again() -> None:
    requested = PoolConfig(max_workers=4, gpus=0.5)
    config = replace(paper(), tag=TagConfig(model="ram", pool=requested))
    pools = size_pools(config, 8)
    assert sum(pool.max_workers * pool.gpus for pool in pools.values()) == 8
    assert pools["tag"].max_workers == 4


def test_of_two_gpus_the_slowest_model_has_one_for_itself() -> None:
    slow_detector = replace(paper(), costs="tag=0.005,detect=0.119,segment=0.067")
    for config, slowest in ((paper(), "segment"), (slow_detector, "detect")):
        gpus = {name: pool.gpus for name, pool in size_pools(config, 2).items()}
        assert [name for name in gpus if gpus[name] == 1] == [slowest]


def test_without_a_gpu_each_stage_has_one_worker() -> None:
    pools = size_pools(demo(), 0)
    assert {pool.max_workers for pool in pools.values()} == {1}
    assert {pool.gpus for pool in pools.values()} == {0.0}


def test_a_pool_that_the_user_sets_stays() -> None:
    requested = PoolConfig(min_workers=2, max_workers=5, gpus=0.25, cpus=3)
    config = replace(paper(), tag=TagConfig(model="ram", pool=requested))
    pool = size_pools(config, 8)["tag"]
    assert (pool.min_workers, pool.max_workers, pool.gpus, pool.cpus) == (2, 5, 0.25, 3)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        (PoolConfig(), (8, 1.0)),
        (PoolConfig(gpus=0.5), (16, 0.5)),
        (PoolConfig(max_workers=2), (2, 1.0)),
    ],
)
def test_fused_workers_fill_the_gpus_unless_set(requested: PoolConfig, expected: tuple) -> None:
    config = replace(paper(), device="cuda", layout="fused", fused=requested)
    [spec] = plan(config, num_gpus=8)
    assert (spec.pool.max_workers, spec.pool.gpus) == expected
    [on_cpu] = plan(replace(config, device="cpu"), num_gpus=0)
    assert on_cpu.pool.gpus == 0


def test_two_chunks_are_in_flight_on_a_gpu_and_one_on_a_cpu_unless_set() -> None:
    gpu = replace(paper(), device="cuda")
    assert [spec.in_flight for spec in plan(gpu, num_gpus=1)] == [2]
    assert [spec.in_flight for spec in plan(gpu, num_gpus=8)] == [2, 2, 1, 2]
    assert [spec.in_flight for spec in plan(replace(gpu, in_flight=1), num_gpus=1)] == [1]
    cpu = replace(paper(), device="cpu")
    assert [spec.in_flight for spec in plan(cpu)] == [1]
    assert [spec.in_flight for spec in plan(replace(cpu, in_flight=3))] == [3]


def test_the_service_does_not_wait_for_a_whole_chunk() -> None:
    [fused] = plan(replace(paper(), device="cpu", layout="fused"))
    assert fused.batch_size == 32


@pytest.mark.parametrize(
    ("free", "expected"),
    [
        ({"CPU": 10.0, "GPU": 8.0}, True),
        ({"CPU": 10.0, "GPU": 7.0}, False),
        ({"CPU": 8.5, "GPU": 8.0}, False),
        ({"CPU": 10.0}, False),
    ],
)
def test_workers_start_at_once_only_where_all_of_them_fit(monkeypatch, free, expected) -> None:
    from pad_pipeline.engine import ray_resources

    specs = plan(replace(paper(), device="cuda", layout="pools"), num_gpus=8)
    monkeypatch.setattr(ray_resources.ray, "available_resources", lambda: free)
    assert ray_resources.fits_cluster(specs) is expected
