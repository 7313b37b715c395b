"""What is counted of each stage of a run."""

from __future__ import annotations

import pytest

from pad_pipeline.engine.metrics import RunMetrics, StageMetrics, StageTiming


def test_metrics_of_a_stage() -> None:
    metrics = RunMetrics({"tag": 2, "segment": 1})
    for seconds in (1.0, 1.0, 1.0, 9.0):
        metrics.add(
            [StageTiming("tag", seconds, images=4, failed=1)], {"decode": 0.5, "tag": seconds - 0.5}
        )
    metrics.sample_queue({"tag": 3})
    metrics.sample_queue({})
    values = metrics.to_dict(elapsed_s=10.0)
    assert values["tag"]["images"] == 16
    assert values["tag"]["failed"] == 4
    assert values["tag"]["busy_share"] == pytest.approx(0.6)  # 12 s of two workers in 10 s
    assert values["tag"]["images_per_s_and_worker"] == pytest.approx(16 / 12, rel=1e-3)
    assert values["tag"]["chunk_s_median"] == pytest.approx(1.0, rel=0.05)
    assert values["tag"]["chunk_s_p95"] == pytest.approx(9.0, rel=0.05)
    assert values["tag"]["waiting_chunks_mean"] == 1.5
    assert values["segment"]["images"] == 0
    assert values["segment"]["images_per_s_and_worker"] is None
    assert dict(metrics.seconds) == {"decode": 2.0, "tag": 10.0}


def test_a_stage_that_has_not_worked_has_no_times() -> None:
    assert StageMetrics().chunk_s(0.5) == 0.0
