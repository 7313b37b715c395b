"""Which device and dtype a run gets."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pad_pipeline.engine.config import paper
from pad_pipeline.engine.device import resolve_device
from pad_pipeline.errors import UserError


def test_device_and_dtype_are_those_of_the_cluster() -> None:
    on_cluster = resolve_device(paper(), cluster_gpus=4)
    assert (on_cluster.device, on_cluster.dtype) == ("cuda", "bfloat16")
    on_cpus = resolve_device(paper(), cluster_gpus=0)
    assert (on_cpus.device, on_cpus.dtype) == ("cpu", "float32")


def test_a_gpu_that_is_not_there_is_an_error(monkeypatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no CUDA GPU"):
        resolve_device(replace(paper(), device="cuda"))
    with pytest.raises(UserError, match="the Ray cluster has no GPU"):
        resolve_device(replace(paper(), device="cuda"), cluster_gpus=0)


def test_8_bits_without_a_gpu_are_refused_before_a_model_is_loaded() -> None:
    config = replace(paper(), segment=replace(paper().segment, quantize="fp8"))
    assert resolve_device(config, cluster_gpus=1).segment.quantize == "fp8"
    with pytest.raises(UserError, match="needs a GPU"):
        resolve_device(config, cluster_gpus=0)
    with pytest.raises(UserError, match="needs dtype='bfloat16', not float32"):
        resolve_device(replace(config, dtype="float32"), cluster_gpus=1)


@pytest.mark.parametrize("driver", [False, True])
def test_torch_looks_for_a_gpu_only_where_there_is_a_driver(monkeypatch, driver: bool) -> None:
    calls = []
    monkeypatch.setattr("pad_pipeline.engine.device._has_driver", lambda: driver)
    monkeypatch.setattr("torch.cuda.is_available", lambda: calls.append(1) or True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert resolve_device(paper()).device == ("cuda" if driver else "cpu")
    assert bool(calls) == driver
