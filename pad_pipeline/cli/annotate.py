"""The commands `annotate`, `plan`, `status`, `retry-failed` and `demo`."""

from __future__ import annotations

import dataclasses
import json as json_module
import shlex
from typing import Annotated, Literal

from rich.console import Console
from tyro.conf import Positional, arg

from pad_pipeline import storage
from pad_pipeline.cli.options import (
    DataSet,
    Preset,
    RayOptions,
    Source,
    SourceOptions,
    SubsetOptions,
    to_words,
)
from pad_pipeline.cli.reports.output import say, write_text
from pad_pipeline.engine.config import PRESETS, AnnotateConfig
from pad_pipeline.errors import Setting


def annotate(
    source: Source,
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    config: Annotated[AnnotateConfig, arg(name="")],
    files: Annotated[SourceOptions, arg(name="")],
    subset: Annotated[SubsetOptions, arg(name="")],
    ray: Annotated[RayOptions, arg(name="")],
    preset: Preset = "paper",
) -> None:
    """Write tags, boxes and masks of every image to a data set.

    The same command again continues where it stopped.

    Args:
        output: Folder of the data set; a path or a URL.
    """
    from pad_pipeline.annotate.run import TooManyFailed
    from pad_pipeline.annotate.run import annotate as run
    from pad_pipeline.cli.reports.runs import print_run
    from pad_pipeline.sources.subset import Subset

    del preset
    try:
        report = run(
            source,
            output,
            config,
            captions=files.captions,
            images=files.images,
            subset=Subset(**dataclasses.asdict(subset)),
            ray_address=ray.ray_address,
            ray_logs=ray.ray_logs,
            console=Console(stderr=True),
        )
    except TooManyFailed as error:
        print_run(error.report)
        raise
    print_run(report)


def plan(
    source: Source,
    config: Annotated[AnnotateConfig, arg(name="")],
    files: Annotated[SourceOptions, arg(name="")],
    gpus: int,
    preset: Preset = "paper",
    num_images: int | None = None,
    json: str | None = None,
) -> None:
    """Propose layout, pools and batch sizes for a number of GPUs.

    The proposal comes with its time and GPU-hours. A few images go through every stage in this
    process, on this machine's GPU or CPU, and are timed; with --costs nothing is loaded. The cost
    model: stage i takes s seconds per image and has n workers of a GPU each. Pools do min(n / s)
    images/s, fused does GPUs / sum(s), the engine takes 3 % of both; time = start-up + images /
    rate, GPU-hours = GPUs x time.

    Args:
        gpus: GPUs of the cluster, of one kind.
        num_images: How many images to measure with, the same ones every time; a chunk of them by
            default, at least 64.
        json: Also write everything to this file.
    """
    from pad_pipeline.annotate.listing import list_given
    from pad_pipeline.annotate.planner import changed_settings, check_num_gpus, propose
    from pad_pipeline.annotate.probe import measure, sample_rows
    from pad_pipeline.cli.reports.plan import plan_to_dict, print_plan
    from pad_pipeline.engine.costs import Costs

    check_num_gpus(gpus)
    rows = list_given(source, config, captions=files.captions, images=files.images)
    # Passes are as full as in a run only where a whole chunk is measured.
    number = max(64, config.chunk_size) if num_images is None else num_images
    sample = sample_rows(rows, number)
    probe = None
    if config.seconds_by_model is not None:
        costs = Costs(models=config.seconds_by_model, source="given with --costs")
    else:
        probe = measure(config, sample.rows)
        costs = probe.costs
    sizes = probe.batch_sizes if probe else {}
    proposal = propose(config, costs, gpus, sample.num_images, batch_sizes=sizes)
    given = [Setting(name, value) for name, value in dataclasses.asdict(files).items() if value]
    changed = changed_settings(proposal.config, PRESETS[preset]())
    settings = [Setting("preset", preset), *given, *changed]
    words = [word for setting in settings for word in to_words(setting)]
    command = shlex.join(["pad-pipeline", "annotate", source, "OUTPUT", *words])
    print_plan(proposal, costs, sample.num_images, command)
    if json is not None:
        facts = plan_to_dict(source, proposal, costs, probe, sample.num_images, command)
        write_text(json, json_module.dumps(facts, indent=2, ensure_ascii=False) + "\n")


def status(
    dataset: Positional[Annotated[str, arg(metavar="DATASET")]],
    json: bool = False,
    failed: bool = False,
) -> None:
    """Show whether a run goes on, how fast, and what failed.

    Reads files only, so it works from any machine, whether the run is alive or not.

    Args:
        dataset: The data set that `annotate` writes, or a run of `train`.
        json: Print everything as JSON.
        failed: Print the failed images instead, a line each with the reason.
    """
    from pad_pipeline.annotate.status import read_status
    from pad_pipeline.cli.reports.runs import print_failed, print_status, print_training_status
    from pad_pipeline.train.run.folder import RUN_FILE
    from pad_pipeline.train.run.status import read_training_status

    if storage.exists(storage.join(dataset, RUN_FILE)):
        training = read_training_status(dataset)
        if json:
            say(json_module.dumps(training.to_dict(), indent=2))
        else:
            print_training_status(dataset, training)
        return
    if failed:
        print_failed(dataset)
        return
    found = read_status(dataset)
    if json:
        say(json_module.dumps(found.to_dict(), indent=2, ensure_ascii=False))
    else:
        print_status(found)


def retry_failed(
    dataset: DataSet,
    ray: Annotated[RayOptions, arg(name="")],
    layout: Literal["auto", "fused", "pools"] = "auto",
    hang_after_s: float = AnnotateConfig.hang_after_s,
) -> None:
    """Annotate the failed images of a data set once more.

    The data set must be finished; its other images stay as they are. The same command again
    continues where it stopped.

    Args:
        layout: As for `annotate`.
        hang_after_s: As for `annotate`.
    """
    from pad_pipeline.annotate.retry import retry_failed as run
    from pad_pipeline.cli.reports.runs import print_run

    report = run(
        dataset,
        {"layout": layout, "hang_after_s": hang_after_s},
        ray_address=ray.ray_address,
        ray_logs=ray.ray_logs,
        console=Console(stderr=True),
    )
    print_run(report)


def demo(output: str = "demo", num_images: int = 48, seed: int = 0, photos: bool = False) -> None:
    """Draw scenes and annotate them with the embedded models.

    Args:
        output: Folder for the scenes, the data set and the contact sheet.
        num_images: How many scenes to draw.
        seed: Which scenes to draw.
        photos: Segment photographs of scikit-image in place of scenes, with given boxes, by
            MobileSAM, which is fetched where it is not there.
    """
    from pad_pipeline.cli.reports.runs import print_demo, print_photo_demo
    from pad_pipeline.photos.demo import run_photo_demo
    from pad_pipeline.scenes.demo import run_demo

    if photos:
        print_photo_demo(run_photo_demo(output, console=Console(stderr=True)))
        return
    print_demo(run_demo(output, num_images=num_images, seed=seed, console=Console(stderr=True)))
