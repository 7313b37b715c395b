"""What is counted of each stage of a run."""

from __future__ import annotations

import pytest

from pad_pipeline.engine.metrics import PassCount, RunMetrics, StageMetrics, StageTiming


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


def test_passes_and_images_add_up_by_model() -> None:
    metrics = RunMetrics({"annotate": 1})
    for images in (5, 1):
        passes = {"tag": PassCount(1, 8), "detect": PassCount(2, images)}
        metrics.add([StageTiming("annotate", 1.0, 8, 0, passes=passes)], {})
    assert metrics.passes_to_dict() == {
        "tag": {"passes": 2, "images": 16, "images_per_pass": 8.0},
        "detect": {"passes": 4, "images": 6, "images_per_pass": 1.5},
    }
    assert PassCount().to_dict()["images_per_pass"] == 0.0


def test_chunks_that_were_in_hand_together_do_not_count_their_time_twice() -> None:
    metrics = RunMetrics({"annotate": 1})
    for _ in range(2):
        metrics.add([StageTiming("annotate", 4.0, 8, 0, busy_s=2.0)], {})
    values = metrics.to_dict(elapsed_s=4.0)["annotate"]
    assert (values["busy_s"], values["busy_share"]) == (4.0, 1.0)
    assert values["images_per_s_and_worker"] == 4.0
    assert values["chunk_s_median"] == pytest.approx(4.0, rel=0.05)


def test_a_stage_that_has_not_worked_has_no_times() -> None:
    assert StageMetrics().chunk_s(0.5) == 0.0
