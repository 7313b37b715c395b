"""The figures of a run: one JSON line per step, and TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from pad_pipeline import storage
from pad_pipeline.errors import UserError, first_line

METRICS = "metrics.jsonl"


class Sink(Protocol):
    """Where figures go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the figures of a step."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


class MetricsFile:
    """`RUN/metrics.jsonl`; locally a line is there at once, elsewhere at each `flush`."""

    def __init__(self, run: str, first_step: int) -> None:
        """Keeps the lines of steps before `first_step`, drops what a killed run wrote beyond."""
        self._url = storage.join(run, METRICS)
        self._lines = [line for line in _lines(self._url) if _is_old(line, first_step)]
        path = storage.local_path(self._url)
        storage.write_atomic(self._url, self._text())
        self._file = path.open("a", encoding="utf-8") if path is not None else None

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Append one line; a value that is no number is written as null."""
        clean = {name: v if math.isfinite(v) else None for name, v in values.items()}
        line = json.dumps({"step": step, **clean})
        if self._file is not None:
            self._file.write(line + "\n")
            self._file.flush()
        else:
            self._lines.append(line)

    def flush(self) -> None:
        """Put what was written where the run lies, if that is not this machine's disk."""
        if self._file is None:
            storage.write_atomic(self._url, self._text())

    def close(self) -> None:
        """Flush and close."""
        self.flush()
        if self._file is not None:
            self._file.close()

    def _text(self) -> bytes:
        return "".join(line + "\n" for line in self._lines).encode()


def read_metrics(run: str) -> list[dict[str, Any]]:
    """All lines of a run's figures, in order."""
    return [json.loads(line) for line in _lines(storage.join(run, METRICS))]


def open_sinks(names: Sequence[str], run: str, first_step: int, config: dict) -> list[Sink]:
    """The sinks of these names; `UserError` where a package is missing."""
    return [_SINKS[name](run, first_step, config) for name in names]


class _TensorBoard:
    def __init__(self, run: str, first_step: int, config: dict) -> None:
        from tensorboardX import SummaryWriter

        place = storage.local_path(storage.join(run, "tensorboard"))
        if place is None:
            raise UserError(
                f"TensorBoard's files can only be written to a local run, not {run}; add "
                "--loggers with nothing behind it (metrics.jsonl holds the same figures)"
            )
        self._writer = SummaryWriter(str(place), purge_step=first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, run: str, first_step: int, config: dict) -> None:
        try:
            import wandb  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("--loggers wandb needs `pip install wandb`") from error
        try:
            self._run = wandb.init(
                project="pad-pipeline",
                name=run.rsplit("/", 1)[-1],
                id=_id_of(run),
                config=config,
                resume="allow",
            )
        except wandb.Error as error:
            raise UserError(f"--loggers wandb: {first_line(error)}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MlFlow:
    def __init__(self, run: str, first_step: int, config: dict) -> None:
        try:
            import mlflow  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError("--loggers mlflow needs `pip install mlflow`") from error
        self._mlflow = mlflow
        try:
            begun = mlflow.search_runs(
                filter_string=f"tags.pad_run = '{_id_of(run)}'", output_format="list"
            )
            if begun:
                mlflow.start_run(run_id=begun[0].info.run_id)
            else:
                mlflow.start_run(run_name=run.rsplit("/", 1)[-1], tags={"pad_run": _id_of(run)})
                mlflow.log_params(config)
        except mlflow.MlflowException as error:
            raise UserError(f"--loggers mlflow: {first_line(error)}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({k: v for k, v in values.items() if math.isfinite(v)}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def _id_of(run: str) -> str:
    """What other programs know a run by, so that one that goes on is the same there."""
    return hashlib.sha256(storage.absolute(run).encode()).hexdigest()[:16]


_SINKS = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases, "mlflow": _MlFlow}


def _lines(url: str) -> list[str]:
    if not storage.exists(url):
        return []
    # a killed run may have left a half line at the end
    return [line for line in storage.read_bytes(url).decode().splitlines() if line.endswith("}")]


def _is_old(line: str, first_step: int) -> bool:
    return json.loads(line)["step"] < first_step
