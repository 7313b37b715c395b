"""A stage's worker called in this process: its batches, and the number of replicas."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from ray.serve.schema import AutoscalingConfig

from pad_pipeline.engine.plan import Pool, StageSpec
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import Seconds, Stage
from pad_pipeline.serve.config import ServiceConfig
from pad_pipeline.serve.deployments import stage_application
from pad_pipeline.serve.replica import StageReplica
from tests import fakes
from tests.serve.service import png

sizes: list[int] = []


def build(seconds: Seconds) -> Stage:
    stages = fakes.build_all(seconds)

    def stage(samples: list[Sample]) -> list[Sample]:
        sizes.append(len(samples))
        return stages(samples)

    return stage


SPEC = StageSpec(name="annotate", make=build, pool=fakes.POOL, keep_bytes=False, batch_size=4)


def samples(number: int) -> list[Sample]:
    return [Sample(image_id=f"{index}", uri="", data=png()) for index in range(number)]


def run(number: int, method: str) -> list[Sample]:
    sizes.clear()

    async def call() -> list[Sample]:
        replica = StageReplica(SPEC, batch_wait_s=0.2, hang_after_s=60)
        sent = samples(number)
        sent[1].data = b"no image"
        return await asyncio.gather(*map(getattr(replica, method), sent))

    return asyncio.run(asyncio.wait_for(call(), 30))


@pytest.mark.parametrize(("method", "expected"), [("together", [4, 2]), ("alone", [1] * 6)])
def test_what_waits_goes_together_unless_it_must_not(method: str, expected: list[int]) -> None:
    found = run(6, method)
    assert sizes == expected
    assert [sample.image_id for sample in found] == [f"{index}" for index in range(6)]
    assert [sample.error is None for sample in found] == [True, False, True, True, True, True]
    for sample in found:
        assert sample.image is None  # pixels do not leave the process, bytes need not
        assert sample.data is None


def scaling(least: int, most: int) -> tuple[int | None, AutoscalingConfig | None]:
    spec = replace(SPEC, pool=Pool(least, most, gpus=0.5, cpus=2.0))
    application = stage_application(spec, ServiceConfig(max_queued=20), hang_after_s=60)
    deployment = application._bound_deployment
    assert deployment.name == "annotate"
    assert deployment.ray_actor_options["num_cpus"] == 2.0
    assert deployment.ray_actor_options["num_gpus"] == 0.5
    assert deployment.max_ongoing_requests == 20
    return deployment.num_replicas, deployment._deployment_config.autoscaling_config


def test_workers_grow_by_load_within_the_specs_pool() -> None:
    assert scaling(3, 3) == (3, None)
    _, config = scaling(1, 3)
    assert config is not None
    assert (config.min_replicas, config.max_replicas) == (1, 3)
    assert config.target_ongoing_requests == SPEC.batch_size
