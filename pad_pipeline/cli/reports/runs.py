"""What `annotate`, `retry-failed`, `demo` and `status` print."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

from pad_pipeline.cli.reports.output import print_counts, print_pairs, print_table, say
from pad_pipeline.drawing.terminal import printable
from pad_pipeline.errors import plural

if TYPE_CHECKING:
    from pad_pipeline.annotate.report import RunReport
    from pad_pipeline.annotate.status import RunStatus
    from pad_pipeline.photos.demo import PhotoDemoResult
    from pad_pipeline.scenes.demo import DemoResult
    from pad_pipeline.train.run.status import TrainingStatus


def print_run(report: RunReport) -> None:
    """The summary of an annotation run."""
    from pad_pipeline.progress import format_duration

    rows = [
        ("images", f"{report.num_images:,}"),
        ("  with regions", f"{report.num_ok:,}"),
        ("  without", f"{report.num_empty:,}"),
        ("  failed", f"{report.num_failed:,}"),
        *([("    missing", f"{report.num_missing:,}")] if report.num_missing else []),
        ("regions", f"{report.num_regions:,}"),
        ("unique tags", f"{report.num_unique_tags:,}"),
    ]
    if report.images_this_run:
        rows += [
            (
                "this run",
                f"{plural(report.images_this_run, 'image')} in {format_duration(report.seconds)}",
            ),
            ("rate", f"{report.images_per_s:.1f} images/s, models loaded"),
        ]
    print_pairs("Data set", rows)
    total = sum(report.seconds_by_stage.values())
    if total:
        print_pairs(
            "Time of the workers by stage",
            [
                (name, f"{seconds:.1f} s ({seconds / total:.0%}){_passes(report, name)}")
                for name, seconds in report.seconds_by_stage.items()
            ],
        )
    if report.failures:
        print_counts("Failed images by cause", report.failures)
        _say_which_failed(report)
        _say_how_to_retry(report.output)
    say(f"data set: {report.output}")
    say(f"done: {report.num_images:,} images, {report.num_failed:,} failed")


def _say_which_failed(report: RunReport) -> None:
    hidden = report.num_failed - len(report.first_failed)
    names = ", ".join(map(printable, report.first_failed))
    rest = f" and {hidden:,} more" if hidden else ""
    say(f"failed: {names}{rest}; with their reasons: pad-pipeline status --failed {report.output}")


def _passes(report: RunReport, stage: str) -> str:
    """The images per pass of a stage's model, where it has one."""
    counted = report.passes_by_stage.get(stage)
    return f", {counted['images_per_pass']:.1f} images per pass" if counted else ""


def print_demo(result: DemoResult) -> None:
    """The summary of a demo, its quality table and where its files are."""
    print_run(result.report)
    quality = result.quality
    print_pairs(
        f"Quality on {quality.num_scenes} scenes that training never saw",
        [
            ("tags, micro-F1", f"{quality.tag_f1:.3f}"),
            ("boxes, AP at IoU 0.5", f"{quality.ap50:.3f}"),
            ("boxes, AP", f"{quality.ap:.3f}"),
            ("masks, mean IoU", f"{quality.mask_iou:.3f}"),
            ("things found", f"{quality.matched} of {quality.things}"),
        ],
    )
    say("The embedded models know the things of these scenes only; they are no use on photos.")
    say(f"overview: {result.overview}")
    say(f"images:   {result.images}")
    say(f"records:  {result.annotations}")


def print_photo_demo(result: PhotoDemoResult) -> None:
    """The summary of a demo on photographs, and where its files are."""
    print_run(result.report)
    say(f"Masks by {result.segmenter} with its real weights; the boxes and their names were given.")
    say(f"overview: {result.overview}")
    say(f"records:  {result.annotations}")


def print_status(found: RunStatus) -> None:
    """State, progress, rates and failures of an annotation run."""
    from pad_pipeline.progress import format_duration

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
        rows.append(("last update", f"{ago} ago"))
    if found.reason:
        rows.append(("error", found.reason))
    print_pairs(found.output, rows)
    if found.stages:
        _print_stages(found.stages)
    if found.failures:
        print_counts("Failed images by cause", found.failures)
    if found.state == "interrupted":
        say("Run the same command again to continue.")
    elif num_failed and found.state == "finished":
        _say_how_to_retry(found.output)


def print_failed(dataset: str) -> None:
    """The failed images of the shards that are there, each with its reason."""
    from pad_pipeline.dataset.reader import iter_records, open_dataset
    from pad_pipeline.dataset.selection import Selection

    failed = Selection(status=("failed",))
    for record in iter_records(open_dataset(dataset), failed, masks=False):
        error = record.error
        reason = f"{error.stage}: {error.type}: {error.message}" if error else "unknown"
        say(f"{printable(record.image_id)}: {printable(reason)}")


def _say_how_to_retry(output: str) -> None:
    say(f"To annotate the failed images again: pad-pipeline retry-failed {output}")


def _print_stages(stages: Any) -> None:
    say("Stages of the last command")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "images", "failed", "images/s per worker", "workers", "busy", "waiting"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name, metrics in stages.items():
        rate = metrics["images_per_s_and_worker"]
        table.add_row(
            name,
            f"{metrics['images']:,}",
            f"{metrics['failed']:,}",
            f"{rate:.1f}" if rate else "-",
            f"{metrics['workers']}",
            f"{metrics['busy_share']:.0%}",
            f"{metrics['waiting_chunks']} chunks",
        )
    print_table(table)


def print_training_status(output: str, found: TrainingStatus) -> None:
    """State, progress and last metrics of a training run."""
    from pad_pipeline.progress import format_duration

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
        say("Run the same command again to continue.")
