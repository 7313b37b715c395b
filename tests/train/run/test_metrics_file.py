"""The figures of a run stay one line per step, whatever was killed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.run.loggers import open_loggers
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


def test_values_that_are_no_number_are_null(tmp_path: Path) -> None:
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


def test_tensorboard_holds_the_figures(tmp_path: Path) -> None:
    [sink] = open_loggers(("tensorboard",), str(tmp_path), 0, {})
    sink.write(0, {"caption_loss": 2.5})
    sink.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"caption_loss" in events.read_bytes()


class Refused(Exception):
    """What a service says that will not have it."""


def test_weights_and_biases_knows_a_run_that_goes_on(tmp_path: Path, monkeypatch) -> None:
    begun: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        if options["name"] == "refused":
            raise Refused("no key\nand more")
        begun.append(options)
        return SimpleNamespace(log=lambda values, step: None, finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=Refused))
    for name in ("a", "a", "b"):
        [sink] = open_loggers(("wandb",), str(tmp_path / name), 0, {"seed": 1})
        sink.write(0, {"loss": 1.0})
        sink.close()
    ids = [options["id"] for options in begun]
    assert ids[0] == ids[1] != ids[2]
    assert begun[0]["resume"] == "allow"
    with pytest.raises(UserError, match=r"^loggers='wandb': no key$"):
        open_loggers(("wandb",), str(tmp_path / "refused"), 0, {})


class MlFlow:
    """What of MLflow's module is used."""

    MlflowException = Refused

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.params: list[dict[str, Any]] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []

    def search_runs(self, *, filter_string: str, output_format: str) -> list[SimpleNamespace]:
        wanted = filter_string.removeprefix("tags.pad_run = ").strip("'")
        found = [run_id for run_id, tags in self.runs.items() if tags["pad_run"] == wanted]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run_id)) for run_id in found]

    def start_run(self, run_id: str = "", run_name: str = "", tags: Any = None) -> None:
        if run_name == "refused":
            raise Refused("no store\nand more")
        assert bool(run_id) != bool(run_name)
        if run_name:
            self.runs[f"{len(self.runs)}"] = tags

    def log_params(self, config: dict[str, Any]) -> None:
        self.params.append(config)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((step, values))

    def end_run(self) -> None: ...


def test_mlflow_knows_a_run_that_goes_on(tmp_path: Path, monkeypatch) -> None:
    module = MlFlow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for name in ("a", "a", "b"):
        [sink] = open_loggers(("mlflow",), str(tmp_path / name), 0, {"seed": 1})
        sink.write(3, {"loss": 1.0, "bad": math.nan})
        sink.close()
    assert len(module.runs) == 2
    assert module.params == [{"seed": 1}] * 2
    assert module.metrics == [(3, {"loss": 1.0})] * 3
    with pytest.raises(UserError, match=r"^loggers='mlflow': no store$"):
        open_loggers(("mlflow",), str(tmp_path / "refused"), 0, {})
