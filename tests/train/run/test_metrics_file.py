"""The metrics of a run stay one line per step, whatever was killed."""

from __future__ import annotations

import json
import math
from pathlib import Path

from pad_pipeline.train.run.metrics_file import MetricsFile, read_metrics


def test_lines_beyond_the_checkpoint_are_dropped_and_half_lines_too(tmp_path: Path) -> None:
    run = str(tmp_path)
    first = MetricsFile(run, 0)
    for step in range(5):
        first.write(step, {"loss": float(step)})
    first.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')
    second = MetricsFile(run, 3)
    second.write(3, {"loss": 30.0})
    assert [line["step"] for line in read_metrics(run)] == [0, 1, 2, 3]
    assert read_metrics(run)[-1]["loss"] == 30.0
    second.close()


def test_values_that_are_not_finite_are_null(tmp_path: Path) -> None:
    file = MetricsFile(str(tmp_path), 0)
    file.write(0, {"loss": math.inf})
    file.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 0, "loss": None}


def test_a_remote_run_gets_its_lines_at_each_flush() -> None:
    run = "memory://runs/logs"
    file = MetricsFile(run, 0)
    file.write(0, {"loss": 1.0})
    file.flush()
    assert read_metrics(run) == [{"step": 0, "loss": 1.0}]
    file.write(1, {"loss": 2.0})
    file.close()
    assert len(read_metrics(run)) == 2
