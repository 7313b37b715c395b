"""The cost model: workers that balance stages, rates and times that follow."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.engine.costs import (
    ENGINE_CHUNKS_PER_S,
    MODELS,
    OVERHEAD,
    Costs,
    Share,
    predict_fused,
    predict_pools,
    share_out,
)
from pad_pipeline.errors import UserError

SECONDS = st.fixed_dictionaries({name: st.floats(0.001, 10) for name in MODELS})
KNOWN = Costs(models={"tag": 0.01, "detect": 0.04, "segment": 0.07})


def slowest(workers: dict[str, int], seconds: dict[str, float]) -> float:
    return min(count / seconds[name] for name, count in workers.items())


def best_of_all(seconds: dict[str, float], each: dict[str, float], num_gpus: float) -> float:
    """The best of every way to share out the GPUs."""
    most = [range(1, int(num_gpus / each[name]) + 1) for name in seconds]
    ways = (dict(zip(seconds, counts, strict=True)) for counts in itertools.product(*most))
    return max(
        slowest(way, seconds)
        for way in ways
        if sum(way[name] * each[name] for name in way) <= num_gpus
    )


@given(SECONDS, st.integers(3, 14))
def test_no_other_way_to_share_out_gpus_is_faster(seconds: dict, num_gpus: int) -> None:
    workers = share_out(seconds, num_gpus)
    assert sum(workers.values()) == num_gpus
    each = dict.fromkeys(seconds, 1.0)
    assert slowest(workers, seconds) == best_of_all(seconds, each, num_gpus)


@given(SECONDS, st.integers(3, 8), st.sampled_from([0.25, 0.5, 1.0]))
def test_nor_where_workers_take_a_part_of_a_gpu(seconds: dict, num_gpus: int, part: float) -> None:
    each = {"tag": part, "detect": 0.5, "segment": 1.0}
    workers = share_out(seconds, num_gpus, gpus_each=each)
    assert slowest(workers, seconds) == best_of_all(seconds, each, num_gpus)


def test_workers_that_are_set_stay() -> None:
    workers = share_out(KNOWN.models, 10, fixed={"segment": 2}, least={"tag": 3})
    assert workers == {"tag": 3, "detect": 5, "segment": 2}


def test_rates_and_times_by_hand() -> None:
    shares = {name: Share(workers=n, gpus=1) for name, n in zip(MODELS, (1, 3, 4), strict=True)}
    pools = predict_pools(KNOWN, 8, 36_000, shares, chunk_size=16)
    assert pools.images_per_s == pytest.approx((1 - OVERHEAD) * 4 / 0.07)
    assert (pools.limit, pools.busy["segment"]) == ("segment", pytest.approx(1 - OVERHEAD))
    assert pools.busy["detect"] == pytest.approx((1 - OVERHEAD) * 4 / 0.07 * 0.04 / 3)
    assert pools.seconds == pytest.approx(pools.start_s + 36_000 / pools.images_per_s)
    assert pools.gpu_hours == pytest.approx(8 * pools.seconds / 3600)
    fused = predict_fused(KNOWN, 8, 36_000, chunk_size=16)
    assert fused.images_per_s == pytest.approx((1 - OVERHEAD) * 8 / 0.12)


def test_models_that_share_a_gpu_share_its_time() -> None:
    shares = {"tag": Share(workers=1, gpus=0.4), "detect": Share(workers=1, gpus=0.6)}
    pools = predict_pools(KNOWN, 1, 100, shares, chunk_size=16)
    assert pools.images_per_s == pytest.approx((1 - OVERHEAD) / 0.05)


def test_the_engine_limits_what_many_gpus_can_do() -> None:
    quick = Costs(models=dict.fromkeys(MODELS, 0.001))
    fused = predict_fused(quick, 64, 10**6, chunk_size=32)
    assert (fused.limit, fused.images_per_s) == (
        "engine",
        pytest.approx(32 * ENGINE_CHUNKS_PER_S["fused"]),
    )


@pytest.mark.parametrize("models", [{"tag": 0.0, "detect": 1.0}, {"sam": 1.0}])
def test_costs_of_other_stages_and_times_that_are_none_are_refused(models: dict) -> None:
    with pytest.raises(UserError, match="seconds per image"):
        Costs(models=models)
