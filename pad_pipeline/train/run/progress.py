"""The progress of a run, shown while its workers train: followed in its metrics file."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.train.run.metrics_file import NewMetrics

logger = logging.getLogger(__name__)

_LINE_EVERY_STEPS = 20
_POLL_S = 1.0
_REMOTE_POLL_S = 5.0

Progress = Callable[[dict[str, Any]], None]
"""Takes each new line of a run's metrics."""


@contextmanager
def follow_metrics(run: str, progress: Progress | None) -> Iterator[None]:
    """While the block lasts, every new line of the run's metrics goes to `progress`."""
    if progress is None:
        yield
        return
    ended = threading.Event()
    reader = NewMetrics(run)
    known = max((values["step"] for values in reader.read()), default=-1)
    is_remote = storage.local_path(run) is None

    def poll() -> None:
        nonlocal known
        for values in reader.read():
            if values["step"] > known:
                known = values["step"]
                progress(values)

    def watch() -> None:
        while not ended.wait(_REMOTE_POLL_S if is_remote else _POLL_S):
            # The workers report errors of the storage; this thread only shows what it can read.
            with suppress(UserError):
                poll()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(UserError):
            poll()


@contextmanager
def progress_display(console: Console, num_steps: int) -> Iterator[Progress]:
    """A bar on a terminal, else a log line every few steps."""
    if not console.is_terminal:

        def line(values: dict[str, Any]) -> None:
            done = values["step"] + 1
            if done % _LINE_EVERY_STEPS == 0 or done == num_steps:
                logger.info("step %d of %d: %s", done, num_steps, _summary(values))

        yield line
        return
    columns = (
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with ProgressBar(*columns, console=console) as bar:
        task = bar.add_task("", total=num_steps)
        yield lambda values: bar.update(
            task, completed=values["step"] + 1, description=_summary(values)
        )


def _summary(values: dict[str, Any]) -> str:
    text = f"caption {values['caption_loss']:.3f}"
    if values["regions_per_image"]:
        text += f", patch {values['patch_loss']:.3f}, cosine {values['cosine']:.3f}"
    text += f", {values['tokens_per_s']:,.0f} tokens/s"
    if values["waiting_share"] > 0.05:
        text += f", {values['waiting_share']:.0%} of the time waiting for data"
    return text
