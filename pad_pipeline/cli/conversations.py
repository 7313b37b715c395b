"""The command `conversations`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from tyro.conf import Positional, arg

from pad_pipeline.cli.options import RayOptions, TrainingImages
from pad_pipeline.cli.reports.output import say
from pad_pipeline.cognition.config import CognitionConfig


def conversations(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    config: Annotated[CognitionConfig, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    images: TrainingImages = None,
    region_dataset: str | None = None,
) -> None:
    """Add questions for VQ indices and RGB values to conversations.

    The same command again continues where it stopped. With --pool.max-workers above 1 or
    --ray-address it runs on Ray, else in this process.

    Args:
        source: LLaVA's JSON or JSONL.
        output: Folder for the conversations; a path or a URL.
        region_dataset: Data set that `annotate` wrote of the same images: ask about what its masks
            show, where an answer has room for that.
    """
    from pad_pipeline.cognition.run import make_conversations

    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("conversations"), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=console, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        report = make_conversations(
            source,
            output,
            config,
            images=images,
            region_dataset=region_dataset,
            work_on_ray=_on_ray(config, ray),
            progress=lambda done: bar.update(task, completed=done),
        )
    for line in report.lines():
        say(line)


def _on_ray(config: CognitionConfig, options: RayOptions) -> Any:
    """What works on shards on Ray; None for one worker of this process."""
    if options.ray_address is None and (config.pool.max_workers or 1) == 1:
        return None
    from pad_pipeline.cognition.on_ray import work_on_ray

    return partial(work_on_ray, ray_address=options.ray_address, ray_logs=options.ray_logs)
