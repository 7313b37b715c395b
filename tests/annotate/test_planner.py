"""What `plan` proposes: the layout, the pools and the settings for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pad_pipeline.annotate.planner import changed_settings, propose
from pad_pipeline.engine.config import DetectConfig, PoolConfig, demo, paper
from pad_pipeline.engine.costs import MODELS, Costs
from pad_pipeline.errors import Setting, UserError

SECONDS = st.fixed_dictionaries({name: st.floats(0.001, 10) for name in MODELS})
KNOWN = Costs(models={"tag": 0.01, "detect": 0.04, "segment": 0.07})


@given(SECONDS, st.integers(1, 64))
def test_fused_is_never_slower_on_gpus_of_one_kind(seconds: dict, num_gpus: int) -> None:
    costs = Costs(models={name: value + 0.05 for name, value in seconds.items()}, decode=0.01)
    proposal = propose(paper(), costs, num_gpus, 1000)
    assert proposal.fused.images_per_s >= proposal.pools.images_per_s * (1 - 1e-9)
    assert proposal.chosen is proposal.fused


def test_pools_come_close_with_many_gpus() -> None:
    share = {}
    for num_gpus in (4, 8, 64):
        proposal = propose(paper(), KNOWN, num_gpus, 10**6)
        share[num_gpus] = proposal.pools.images_per_s / proposal.fused.images_per_s
    assert share[4] < share[8] < 1
    assert share[64] > 0.97


def test_models_that_do_not_fit_together_get_pools() -> None:
    costs = Costs(models=KNOWN.models, fits_together=False)
    proposal = propose(paper(), costs, 8, 1000)
    assert proposal.chosen is proposal.pools
    assert "do not fit" in proposal.reason


def test_suppression_gets_workers_enough() -> None:
    costs = Costs(models=KNOWN.models, suppress=0.02)
    config = propose(paper(), costs, 64, 1000, batch_sizes={"tag": 16}).config
    assert config.tag.batch_size == 16
    assert propose(paper(), costs, 64, 1000).pools.limit != "suppress"


def test_the_changed_settings_make_the_proposed_config() -> None:
    pool = PoolConfig(max_workers=3, gpus=0.5)
    config = demo().__class__(
        **{
            **vars(demo()),
            "detect": DetectConfig(model="a b", box_threshold=0.2, pool=pool),
            "compile": True,
            "layout": "pools",
        }
    )
    assert changed_settings(config, demo()) == [
        Setting("detect.model", "a b"),
        Setting("detect.pool.max_workers", 3),
        Setting("detect.pool.gpus", 0.5),
        Setting("compile", True),
        Setting("layout", "pools"),
    ]
    assert changed_settings(demo(), demo()) == []


def test_a_plan_needs_a_gpu() -> None:
    with pytest.raises(UserError, match="num_gpus must be at least 1"):
        propose(paper(), KNOWN, 0, 10)
