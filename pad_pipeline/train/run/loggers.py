"""Where a run's metrics go beside metrics.jsonl: TensorBoard, Weights & Biases or MLflow."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Protocol

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError, first_line


class MetricsLogger(Protocol):
    """Where metrics go."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Take the metrics of a step."""
        ...

    def close(self) -> None:
        """No more will come."""
        ...


def open_loggers(
    names: Sequence[str], run: str, first_step: int, config: dict
) -> list[MetricsLogger]:
    """The loggers of these names; `UserError` where a package is missing."""
    return [_LOGGERS[name](run, first_step, config) for name in names]


class _TensorBoard:
    def __init__(self, run: str, first_step: int, config: dict) -> None:
        from tensorboardX import SummaryWriter

        place = storage.local_path(storage.join(run, "tensorboard"))
        if place is None:
            raise UserError(
                f"TensorBoard's files can only be written to a local run, not {run}; give "
                "an empty ",
                Setting("loggers"),
                " (metrics.jsonl holds the same metrics)",
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
            raise UserError(Setting("loggers", "wandb"), " needs `pip install wandb`") from error
        try:
            self._run = wandb.init(
                project="pad-pipeline",
                name=run.rsplit("/", 1)[-1],
                id=_id_of(run),
                config=config,
                resume="allow",
            )
        except wandb.Error as error:
            raise UserError(Setting("loggers", "wandb"), f": {first_line(error)}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MlFlow:
    def __init__(self, run: str, first_step: int, config: dict) -> None:
        try:
            import mlflow  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise UserError(Setting("loggers", "mlflow"), " needs `pip install mlflow`") from error
        self._mlflow = mlflow
        try:
            existing = mlflow.search_runs(
                filter_string=f"tags.pad_run = '{_id_of(run)}'", output_format="list"
            )
            if existing:
                mlflow.start_run(run_id=existing[0].info.run_id)
            else:
                mlflow.start_run(run_name=run.rsplit("/", 1)[-1], tags={"pad_run": _id_of(run)})
                mlflow.log_params(config)
        except mlflow.MlflowException as error:
            raise UserError(Setting("loggers", "mlflow"), f": {first_line(error)}") from error

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._mlflow.log_metrics({k: v for k, v in values.items() if math.isfinite(v)}, step=step)

    def close(self) -> None:
        self._mlflow.end_run()


def _id_of(run: str) -> str:
    """What other programs know a run by, so that a resumed one is the same there."""
    return hashlib.sha256(storage.absolute(run).encode()).hexdigest()[:16]


_LOGGERS = {"tensorboard": _TensorBoard, "wandb": _WeightsAndBiases, "mlflow": _MlFlow}
