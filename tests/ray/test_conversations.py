from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest
import ray

from pad_pipeline.cognition.on_ray import work_on_ray
from pad_pipeline.cognition.run import make_conversations
from pad_pipeline.engine.stage_config import PoolConfig
from pad_pipeline.errors import UserError
from tests.cognition.samples import (
    entry,
    read_bytes,
    small_config,
    write_model,
    write_source,
)

pytestmark = pytest.mark.ray


@pytest.mark.usefixtures("local_ray")
def test_a_pool_writes_the_bytes_that_one_process_writes(tmp_path: Path) -> None:
    source = write_source(tmp_path / "in", [entry(n) for n in range(14)], range(14))
    config = small_config(write_model(tmp_path))
    make_conversations(str(source), str(tmp_path / "here"), config)
    pool = replace(config, pool=PoolConfig(max_workers=2))
    free = ray.available_resources().get("CPU", 0)  # an earlier test's run may still be ending
    make_conversations(str(source), str(tmp_path / "ray"), pool, work_on_ray=work_on_ray)
    assert read_bytes(tmp_path / "ray") == read_bytes(tmp_path / "here")
    broken = replace(pool, device="cuda")
    with pytest.raises(UserError, match="needs a GPU, but the Ray cluster has no GPU") as refused:
        make_conversations(str(source), str(tmp_path / "cuda"), broken, work_on_ray=work_on_ray)
    assert refused.tb is not None  # what holds the frames of the run, and with them its workers
    deadline = time.monotonic() + 60
    while ray.available_resources().get("CPU", 0) < free:
        assert time.monotonic() < deadline, "workers still reserve CPU slots"
        time.sleep(0.1)
