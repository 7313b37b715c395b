"""Training on Ray Train: starts the workers, restarts those that die, tells what happens."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow.fs
import ray
import ray.exceptions
import ray.train
import ray.train.torch

from pad_pipeline import storage
from pad_pipeline.engine import ray_session
from pad_pipeline.errors import UserError
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.files import Run, read_run
from pad_pipeline.train.run.logs import METRICS

logger = logging.getLogger(__name__)

ERROR_FILE = "_error.json"
_POLL_S = 1.0
_REMOTE_POLL_S = 5.0

Progress = Callable[[dict[str, Any]], None]


def train_on_ray(
    run: Run,
    config: TrainConfig,
    *,
    ray_address: str | None = None,
    ray_logs: bool = False,
    progress: Progress | None = None,
) -> None:
    """Train `run` to its end on `config.workers` workers.

    `progress` is called with each new line of the run's figures. Joins the Ray cluster at
    `ray_address` or the one that is there, else starts Ray here. A worker that dies is started
    again, `config.max_failures` times, and goes on from the last checkpoint. Raises `UserError`
    where training cannot go on.
    """
    with ray_session.shut_down_after():
        cluster = ray_session.join(ray_address, verbose=ray_logs)
        if cluster is None:
            ray_session.start_here(config.workers + 1, verbose=ray_logs, shared_cores=False)
        num_gpus = ray.cluster_resources().get("GPU", 0)
        use_gpu = config.device != "cpu" and num_gpus > 0
        if config.device == "cuda" and not use_gpu:
            raise UserError("--device cuda, but Ray sees no GPU; use --device cpu")
        if use_gpu and num_gpus < config.workers:
            logger.warning("%d workers wait for a GPU each; %d are here", config.workers, num_gpus)
        storage.remove(storage.join(run.url, ERROR_FILE))
        with _state_folder(run) as (folder, filesystem), _watched(run, progress):
            trainer = ray.train.torch.TorchTrainer(
                _work,
                train_loop_config={"run": run.url, "config": config},
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
                raise _explain(run, error) from error


def _work(config: dict[str, Any]) -> None:
    """One worker: trains its share of every step."""
    import torch

    from pad_pipeline.train.distributed import workers
    from pad_pipeline.train.loop import train

    run = read_run(config["run"])
    _fail_again(run)
    context = ray.train.get_context()
    if not ray.get_gpu_ids():
        # Ray sets one thread per reserved CPU slot, which are not cores here
        share = max(1, (os.cpu_count() or 1) // context.get_local_world_size())
        torch.set_num_threads(config["config"].threads or share)
    if context.get_world_rank() == 0:
        logging.getLogger("pad_pipeline").setLevel(logging.INFO)
    try:
        train(run, config["config"], workers())
    except UserError as error:
        text = json.dumps({"error": str(error)})
        storage.write_atomic(storage.join(run.url, ERROR_FILE), text.encode())
        raise


def _fail_again(run: Run) -> None:
    """An error that a restart does not mend ends the restarted workers at once."""
    told = _told_error(run)
    if told is not None:
        raise UserError(told)


def _told_error(run: Run) -> str | None:
    url = storage.join(run.url, ERROR_FILE)
    return json.loads(storage.read_bytes(url))["error"] if storage.exists(url) else None


def _explain(run: Run, error: BaseException) -> UserError:
    told = _told_error(run)
    if told is not None:
        storage.remove(storage.join(run.url, ERROR_FILE))
        return UserError(told)
    lines = [line for line in str(error).splitlines() if line.strip()]
    return UserError(
        f"training failed: {lines[-1].strip() if lines else type(error).__name__}. The same "
        "command goes on from the last checkpoint; --debug --ray-logs shows the whole story"
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


@contextmanager
def _watched(run: Run, progress: Progress | None) -> Iterator[None]:
    """While the block lasts, every new line of the run's figures goes to `progress`."""
    if progress is None:
        yield
        return
    ended = threading.Event()
    reader = _NewLines(storage.join(run.url, METRICS))
    known = max((values["step"] for values in reader.read()), default=-1)
    is_remote = storage.local_path(run.url) is None

    def look() -> None:
        nonlocal known
        for values in reader.read():
            if values["step"] > known:
                known = values["step"]
                progress(values)

    def watch() -> None:
        while not ended.wait(_REMOTE_POLL_S if is_remote else _POLL_S):
            # The workers tell what is wrong with the place; this thread only shows what it finds.
            with suppress(UserError):
                look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(UserError):
            look()


class _NewLines:
    """The lines that a file of figures got since it was last read."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._place = storage.local_path(url)
        self._offset = 0
        self._inode = 0
        self._version = ""

    def read(self) -> list[dict[str, Any]]:
        """Whole lines alone; all of them where a file that is not on this machine has changed."""
        if not storage.exists(self._url):
            return []
        if self._place is None:
            version = storage.version(self._url)
            if version == self._version:
                return []
            text = storage.read_bytes(self._url)
            self._version = version
        else:
            with self._place.open("rb") as file:
                # a run that goes on writes the file anew, without the lines behind its checkpoint
                inode = os.fstat(file.fileno()).st_ino
                if inode != self._inode:
                    self._inode, self._offset = inode, 0
                file.seek(self._offset)
                text = file.read()
            text = text[: text.rfind(b"\n") + 1]
            self._offset += len(text)
        return [json.loads(line) for line in text.decode().splitlines() if line.endswith("}")]
