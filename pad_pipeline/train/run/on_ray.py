"""Training on Ray Train: starts the workers, restarts those that die, shows the progress."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow.fs
import ray
import ray.exceptions
import ray.train
import ray.train.torch

from pad_pipeline import storage
from pad_pipeline.engine import ray_session
from pad_pipeline.engine.ray_worker_log import forward_logs, shown_worker_log
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import Run, read_run
from pad_pipeline.train.run.progress import Progress, follow_metrics

logger = logging.getLogger(__name__)

ERROR_FILE = "_error.json"


def train_on_ray(
    run: Run,
    config: TrainConfig,
    *,
    ray_address: str | None = None,
    ray_logs: bool = False,
    progress: Progress | None = None,
) -> None:
    """Train `run` to its end on `config.workers` workers.

    `progress` is called with each new line of the run's metrics. Joins the Ray cluster at
    `ray_address` or the one that is there, else starts Ray here. A worker that dies is started
    again, `config.max_failures` times, and resumes from the last checkpoint. Raises `UserError`
    where training cannot continue.
    """
    with ray_session.shut_down_after():
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        if cluster is None:
            ray_session.start_here(config.workers + 1, verbose=ray_logs, shared_cores=False)
        num_gpus = ray.cluster_resources().get("GPU", 0)
        use_gpu = config.device != "cpu" and num_gpus > 0
        if config.device == "cuda" and not use_gpu:
            raise UserError(
                "Ray sees no GPU for ",
                Setting("device", "cuda"),
                "; use ",
                Setting("device", "cpu"),
            )
        if use_gpu and num_gpus < config.workers:
            logger.warning(
                "%d workers need a GPU each, but the cluster has %d", config.workers, num_gpus
            )
        storage.remove(storage.join(run.url, ERROR_FILE))
        with (
            _state_folder(run) as (folder, filesystem),
            follow_metrics(run.url, progress),
            shown_worker_log() as log,
        ):
            trainer = ray.train.torch.TorchTrainer(
                _work,
                train_loop_config={"run": run.url, "config": config, "log": log},
                scaling_config=ray.train.ScalingConfig(num_workers=config.workers, use_gpu=use_gpu),
                run_config=ray.train.RunConfig(
                    name=f"train-{uuid.uuid4().hex[:8]}",
                    storage_path=folder,
                    storage_filesystem=filesystem,
                    failure_config=ray.train.FailureConfig(max_failures=config.max_failures),
                ),
            )
            try:
                trainer.fit()
            except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
                raise _to_user_error(run, error) from error


def _work(config: dict[str, Any]) -> None:
    """One worker: trains on its part of every step."""
    import torch

    from pad_pipeline.train.distributed import workers
    from pad_pipeline.train.loop import train

    run = read_run(config["run"])
    _stop_if_failed(run)
    context = ray.train.get_context()
    if not ray.get_gpu_ids():
        # Ray sets one thread per reserved CPU slot, which are not cores here
        own_cores = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
        torch.set_num_threads(config["config"].threads or own_cores)
    if context.get_world_rank() == 0:
        logging.getLogger("pad_pipeline").setLevel(logging.INFO)
    forwarded = forward_logs(config["log"])
    try:
        train(run, config["config"], workers())
    except UserError as error:
        text = json.dumps({"error": error.to_json()})
        storage.write_atomic(storage.join(run.url, ERROR_FILE), text.encode())
        raise
    finally:
        forwarded.flush()


def _stop_if_failed(run: Run) -> None:
    """An error that a restart cannot fix ends the restarted workers at once."""
    error = _saved_error(run)
    if error is not None:
        raise error


def _saved_error(run: Run) -> UserError | None:
    """The `UserError` that a worker left for the driver, if one did."""
    url = storage.join(run.url, ERROR_FILE)
    if not storage.exists(url):
        return None
    return UserError.from_json(json.loads(storage.read_bytes(url))["error"])


def _to_user_error(run: Run, error: BaseException) -> UserError:
    saved = _saved_error(run)
    if saved is not None:
        storage.remove(storage.join(run.url, ERROR_FILE))
        return saved
    lines = [line for line in str(error).splitlines() if line.strip()]
    return UserError(
        f"training failed: {lines[-1].strip() if lines else type(error).__name__}. The same "
        "command resumes from the last checkpoint; ",
        Setting("ray_logs", True),
        " shows Ray's own messages",
    )


@contextmanager
def _state_folder(run: Run) -> Iterator[tuple[str, pyarrow.fs.FileSystem | None]]:
    """Where Ray Train keeps its own state: all nodes must reach it; it is not needed later.

    For a URL with the file system that everything else goes through, as Ray would take its own.
    """
    if storage.local_path(run.url) is None:
        url = storage.join(run.url, "_ray")
        storage.remove_tree(url)
        fs, folder = storage.filesystem(url)
        try:
            yield folder, pyarrow.fs.PyFileSystem(pyarrow.fs.FSSpecHandler(fs))
        finally:
            with suppress(UserError):
                storage.remove_tree(url)
        return
    folder = tempfile.mkdtemp(prefix=".ray-", dir=storage.local_path(run.url))
    try:
        yield folder, None
    finally:
        shutil.rmtree(folder, ignore_errors=True)
