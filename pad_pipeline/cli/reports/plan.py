"""What `plan` prints, and what it writes with `--json`."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from pad_pipeline.cli.reports.output import print_pairs, print_table, say

if TYPE_CHECKING:
    from pad_pipeline.annotate.planner import Proposal
    from pad_pipeline.annotate.probe import Probe
    from pad_pipeline.engine.config import AnnotateConfig
    from pad_pipeline.engine.costs import Costs, Prediction


def print_plan(proposal: Proposal, costs: Costs, num_images: int, command: str) -> None:
    """Seconds per image, both layouts, the one that is proposed, and the command for it."""
    from pad_pipeline.engine.batches import batch_size
    from pad_pipeline.engine.costs import MODELS

    config, pools = proposal.config, proposal.pools
    say(f"Seconds per image on one GPU: {costs.source}")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "ms per image", "images/s", "batch", "workers in pools", "GPUs each"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    table.add_column("busy", justify="right")
    seconds = {**costs.by_stage, "suppress": costs.suppress}
    for name, share in pools.shares.items():
        batch = batch_size(config, name) if name in MODELS else None
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
    say(_describe_chunks(config))
    if "CPU" in costs.source:
        say("Measured without a GPU: the workers would be as slow as this machine's CPU is.")
    if proposal.chosen.limit == "engine":
        say("The engine is the limit: a larger --chunk-size raises its rate.")
    say("")
    say(command)


def plan_to_dict(
    source: str,
    proposal: Proposal,
    costs: Costs,
    probe: Probe | None,
    num_images: int,
    command: str,
) -> dict[str, Any]:
    """Everything that a plan found, as plain JSON values."""
    return {
        "source": source,
        "num_images": num_images,
        "num_gpus": proposal.pools.num_gpus,
        "costs": dataclasses.asdict(costs),
        "probe": dataclasses.asdict(probe) if probe else None,
        "pools": proposal.pools.to_dict(),
        "fused": proposal.fused.to_dict(),
        "layout": proposal.chosen.layout,
        "reason": proposal.reason,
        "command": command,
    }


def _describe_chunks(config: AnnotateConfig) -> str:
    from pad_pipeline.engine.batches import IN_FLIGHT_ON_GPU

    number = config.in_flight or IN_FLIGHT_ON_GPU
    text = f"Chunks of {config.chunk_size} images, {number} in hand at once in every worker"
    if config.max_chunk_bytes is None:
        return f"{text}."
    return f"{text}: up to {number * config.max_chunk_bytes / 2**30:.3g} GiB of decoded pixels."


def _describe(prediction: Prediction) -> str:
    from pad_pipeline.progress import format_duration

    limit = "" if prediction.limit == "annotate" else f", limited by {prediction.limit}"
    return (
        f"{prediction.images_per_s:.1f} images/s, {format_duration(prediction.seconds)}, "
        f"{prediction.gpu_hours:.1f} GPU-hours{limit}"
    )
