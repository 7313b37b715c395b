"""Metrics reach TensorBoard, Weights & Biases and MLflow; a resumed run is the same run there."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.train.run.loggers import open_loggers


def test_tensorboard_holds_the_metrics(tmp_path: Path) -> None:
    [logger] = open_loggers(("tensorboard",), str(tmp_path), 0, {})
    logger.write(0, {"caption_loss": 2.5})
    logger.close()
    [events] = (tmp_path / "tensorboard").iterdir()
    assert b"caption_loss" in events.read_bytes()


class Rejected(Exception):
    """The error of a service that does not accept a run."""


def test_weights_and_biases_knows_a_resumed_run(tmp_path: Path, monkeypatch) -> None:
    begun: list[dict[str, Any]] = []

    def init(**options: Any) -> SimpleNamespace:
        if options["name"] == "rejected":
            raise Rejected("no key\nand more")
        begun.append(options)
        return SimpleNamespace(log=lambda values, step: None, finish=lambda: None)

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init, Error=Rejected))
    for name in ("a", "a", "b"):
        [logger] = open_loggers(("wandb",), str(tmp_path / name), 0, {"seed": 1})
        logger.write(0, {"loss": 1.0})
        logger.close()
    ids = [options["id"] for options in begun]
    assert ids[0] == ids[1] != ids[2]
    assert begun[0]["resume"] == "allow"
    with pytest.raises(UserError, match=r"^loggers='wandb': no key$"):
        open_loggers(("wandb",), str(tmp_path / "rejected"), 0, {})


class MlFlow:
    """What of MLflow's module is used."""

    MlflowException = Rejected

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.params: list[dict[str, Any]] = []
        self.metrics: list[tuple[int, dict[str, float]]] = []

    def search_runs(self, *, filter_string: str, output_format: str) -> list[SimpleNamespace]:
        wanted = filter_string.removeprefix("tags.pad_run = ").strip("'")
        found = [run_id for run_id, tags in self.runs.items() if tags["pad_run"] == wanted]
        return [SimpleNamespace(info=SimpleNamespace(run_id=run_id)) for run_id in found]

    def start_run(self, run_id: str = "", run_name: str = "", tags: Any = None) -> None:
        if run_name == "rejected":
            raise Rejected("no store\nand more")
        assert bool(run_id) != bool(run_name)
        if run_name:
            self.runs[f"{len(self.runs)}"] = tags

    def log_params(self, config: dict[str, Any]) -> None:
        self.params.append(config)

    def log_metrics(self, values: dict[str, float], step: int) -> None:
        self.metrics.append((step, values))

    def end_run(self) -> None: ...


def test_mlflow_knows_a_resumed_run(tmp_path: Path, monkeypatch) -> None:
    module = MlFlow()
    monkeypatch.setitem(sys.modules, "mlflow", module)
    for name in ("a", "a", "b"):
        [logger] = open_loggers(("mlflow",), str(tmp_path / name), 0, {"seed": 1})
        logger.write(3, {"loss": 1.0, "bad": math.nan})
        logger.close()
    assert len(module.runs) == 2
    assert module.params == [{"seed": 1}] * 2
    assert module.metrics == [(3, {"loss": 1.0})] * 3
    with pytest.raises(UserError, match=r"^loggers='mlflow': no store$"):
        open_loggers(("mlflow",), str(tmp_path / "rejected"), 0, {})
