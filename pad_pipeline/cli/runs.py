"""The commands around runs: what one would take, how it stands, and what failed once more."""

from __future__ import annotations

import dataclasses
import json as json_module
import shlex
from typing import TYPE_CHECKING, Annotated, Any, Literal

from rich import box
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from pad_pipeline import storage
from pad_pipeline.cli.reports import (
    print_counts,
    print_pairs,
    print_run,
    print_table,
    say,
    write_text,
)
from pad_pipeline.engine.config import PRESETS, AnnotateConfig
from pad_pipeline.errors import UserError

if TYPE_CHECKING:
    from pad_pipeline.annotate.planner import Proposal
    from pad_pipeline.annotate.status import RunStatus
    from pad_pipeline.engine.costs import Costs, Prediction


def plan(
    source: Positional[Annotated[str, arg(metavar="SOURCE")]],
    config: Annotated[AnnotateConfig, arg(name="")],
    gpus: int,
    preset: Literal["paper", "demo"] = "paper",
    captions: str | None = None,
    images: str | None = None,
    num_images: int = 64,
    json: str | None = None,
) -> None:
    """Propose layout, pools and batch sizes for a source on so many GPUs; time and GPU-hours.

    A few images go through every stage in this process, on this machine's GPU or CPU, and are
    timed; with --costs nothing is loaded. The model of cost: stage i takes s seconds per image and
    has n workers of a GPU each. Pools do min(n / s) images/s, fused does GPUs / sum(s), both less
    3 % for the engine; time = start-up + images / rate, GPU-hours = GPUs x time.

    Args:
        source: As for `annotate`.
        config: The run; what it says of layout, pools and batch sizes is kept.
        gpus: GPUs of the cluster, of one kind.
        preset: As for `annotate`.
        captions: As for `annotate`.
        images: As for `annotate`.
        num_images: How many images to measure with, the same ones every time.
        json: Also write everything to this file.
    """
    from pad_pipeline.annotate.planner import options, propose
    from pad_pipeline.annotate.probe import measure, sample_source
    from pad_pipeline.engine.costs import Costs

    if gpus < 1:
        raise UserError(f"--gpus must be at least 1, not {gpus}")
    sample = sample_source(source, num_images, captions=captions, images=images)
    probe = None
    if config.seconds_by_model is not None:
        costs = Costs(models=config.seconds_by_model, source="given with --costs")
    else:
        probe = measure(config, sample.rows)
        costs = probe.costs
    sizes = probe.batch_sizes if probe else {}
    proposal = propose(config, costs, gpus, sample.num_images, batch_sizes=sizes)
    words = ["pad-pipeline", "annotate", source, "OUTPUT"]
    for name, value in (("--preset", preset), ("--captions", captions), ("--images", images)):
        words += [name, value] if value is not None else []
    command = shlex.join([*words, *options(proposal.config, PRESETS[preset]())])
    _print_plan(proposal, costs, sample.num_images, command)
    if json is not None:
        facts = {
            "source": source,
            "num_images": sample.num_images,
            "num_gpus": gpus,
            "costs": dataclasses.asdict(costs),
            "probe": dataclasses.asdict(probe) if probe else None,
            "pools": proposal.pools.to_dict(),
            "fused": proposal.fused.to_dict(),
            "layout": proposal.chosen.layout,
            "reason": proposal.reason,
            "command": command,
        }
        text = json_module.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        write_text(json, text)


def _print_plan(proposal: Proposal, costs: Costs, num_images: int, command: str) -> None:
    config, pools = proposal.config, proposal.pools
    say(f"Seconds per image on one GPU: {costs.source}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "ms per image", "images/s", "batch", "workers in pools", "GPUs each"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    table.add_column("busy", justify="right")
    seconds = {**costs.by_stage, "suppress": costs.suppress}
    for name, share in pools.shares.items():
        batch = getattr(config.stages[name], "batch_size", None)
        table.add_row(
            name,
            f"{1000 * seconds[name]:.3g}" if seconds[name] else "-",
            f"{1 / seconds[name]:.3g}" if seconds[name] else "-",
            f"{batch}" if batch else "-",
            f"{share.workers}",
            f"{share.gpus:g}",
            f"{pools.busy[name]:.0%}" if name in pools.busy else "-",
        )
    print_table(table)
    if costs.decode:
        say(f"Of these, {1000 * costs.decode:.3g} ms decode the image, in every pool again.")
    print_pairs(
        f"{num_images:,} images on {pools.num_gpus:g} GPUs",
        [(one.layout, _describe(one)) for one in (pools, proposal.fused)],
    )
    say(f"Proposed: {proposal.reason}.")
    if "CPU" in costs.source:
        say("Measured without a GPU: the workers would be as slow as this machine's CPU is.")
    if proposal.chosen.limit == "engine":
        say("The engine limits it: a larger --chunk-size lets it do more images a second.")
    say("")
    say(command)


def _describe(prediction: Prediction) -> str:
    from pad_pipeline.annotate.report import format_duration

    limit = "" if prediction.limit == "annotate" else f", limited by {prediction.limit}"
    return (
        f"{prediction.images_per_s:.1f} images/s, {format_duration(prediction.seconds)}, "
        f"{prediction.gpu_hours:.1f} GPU-hours{limit}"
    )


def status(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    json: bool = False,
) -> None:
    """Say how a run stands: running, finished or interrupted, its rates, what failed and why.

    Reads files only, so it works from any machine, whether the run is alive or not.

    Args:
        output: The data set that `annotate` writes, or a run of `train`.
        json: Print everything as JSON.
    """
    from pad_pipeline.train.run.files import RUN_FILE

    if storage.exists(storage.join(output, RUN_FILE)):
        _print_training(output, json)
        return
    from pad_pipeline.annotate.status import read_status

    found = read_status(output)
    if json:
        say(json_module.dumps(found.to_dict(), indent=2, ensure_ascii=False))
        return
    _print_status(found)


def retry_failed(
    output: Positional[Annotated[str, arg(metavar="OUTPUT")]],
    layout: Literal["auto", "fused", "pools"] = "auto",
    hang_after_s: float = 1800.0,
    ray_address: str | None = None,
    ray_logs: bool = False,
) -> None:
    """Annotate the failed images of a finished data set once more, and only those.

    The same command again continues where it stopped.

    Args:
        output: The data set, as `annotate` wrote it.
        layout: As for `annotate`.
        hang_after_s: As for `annotate`.
        ray_address: Ray cluster to join; without it the one that runs here, else a local start.
        ray_logs: Show Ray's own messages.
    """
    from pad_pipeline.annotate.retry import retry_failed as run

    report = run(
        output,
        {"layout": layout, "hang_after_s": hang_after_s},
        ray_address=ray_address,
        ray_logs=ray_logs,
        console=Console(stderr=True),
    )
    print_run(report)


def _print_status(found: RunStatus) -> None:
    from pad_pipeline.annotate.report import format_duration

    num_failed = sum(found.failures.values())
    rows = [
        ("state", found.state),
        ("images", f"{found.num_done:,} of {found.num_images:,}"),
        ("  failed", f"{num_failed:,}"),
    ]
    if found.images_per_s:
        rows.append(("rate", f"{found.images_per_s:.1f} images/s"))
    if found.seconds_left is not None:
        rows.append(("left", format_duration(found.seconds_left)))
    if found.where:
        rows.append(("last command" if found.state != "running" else "command", found.where))
    if found.seconds_since_sign is not None:
        ago = format_duration(max(found.seconds_since_sign, 0.0))
        rows.append(("last heard of", f"{ago} ago"))
    if found.reason:
        rows.append(("it ended with", found.reason))
    print_pairs(found.output, rows)
    if found.stages:
        _print_stages(found.stages)
    if found.failures:
        print_counts("Failed images by cause", found.failures)
    if found.state == "interrupted":
        say("The command that began it continues it.")
    elif num_failed and found.state == "finished":
        say(f"Once more for the failed ones: pad-pipeline retry-failed {found.output}")


def _print_stages(stages: Any) -> None:
    say("Stages of the last command")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "images", "failed", "images/s per worker", "workers", "busy", "waiting"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, figures in stages.items():
        rate = figures["images_per_s_and_worker"]
        table.add_row(
            name,
            f"{figures['images']:,}",
            f"{figures['failed']:,}",
            f"{rate:.1f}" if rate else "-",
            f"{figures['workers']}",
            f"{figures['busy_share']:.0%}",
            f"{figures['waiting_chunks']} chunks",
        )
    print_table(table)


def _print_training(output: str, as_json: bool) -> None:
    from pad_pipeline.annotate.report import format_duration
    from pad_pipeline.train.run.status import read_training_status

    found = read_training_status(output)
    if as_json:
        say(json_module.dumps(found.to_dict(), indent=2))
        return
    rows = [
        ("state", found.state),
        ("stage", found.stage),
        ("steps", f"{found.steps_done:,} of {found.num_steps:,}"),
    ]
    if found.step_s:
        rows.append(("seconds per step", f"{found.step_s:.3g}"))
    if found.seconds_left is not None:
        rows.append(("left", format_duration(found.seconds_left)))
    for name in ("caption_loss", "patch_loss", "cosine", "tokens_per_s", "waiting_share"):
        if isinstance(found.last.get(name), int | float):
            rows.append((name.replace("_", " "), f"{found.last[name]:.4g}"))
    print_pairs(output, rows)
    if found.state in ("interrupted", "not finished"):
        say("The command that began it continues it.")
