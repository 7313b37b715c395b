"""What the commands say on stdout: short tables and sentences."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from pad_pipeline.annotate.report import RunReport
    from pad_pipeline.dataset.render import RenderReport
    from pad_pipeline.dataset.stats import Stats
    from pad_pipeline.dataset.validate import ValidationReport
    from pad_pipeline.export.formats import ExportReport
    from pad_pipeline.scenes.demo import DemoResult
    from pad_pipeline.verify.rows import VerifyRow

PLAIN_WIDTH = 120
"""Columns where the output is no terminal."""


def say(text: str) -> None:
    """One line on stdout, as it is."""
    sys.stdout.write(text + "\n")


def print_run(report: RunReport) -> None:
    """The summary of an annotation run."""
    from pad_pipeline.annotate.report import format_duration

    rows = [
        ("images", f"{report.num_images:,}"),
        ("  with regions", f"{report.num_ok:,}"),
        ("  without", f"{report.num_empty:,}"),
        ("  failed", f"{report.num_failed:,}"),
        ("regions", f"{report.num_regions:,}"),
        ("unique tags", f"{report.num_unique_tags:,}"),
    ]
    if report.images_this_run:
        rows += [
            ("this run", f"{report.images_this_run:,} images in {format_duration(report.seconds)}"),
            ("rate", f"{report.images_per_s:.1f} images/s, models loaded"),
        ]
    print_pairs("Data set", rows)
    total = sum(report.seconds_by_stage.values())
    if total:
        print_pairs(
            "Time of the workers by stage",
            [
                (name, f"{seconds:.1f} s ({seconds / total:.0%})")
                for name, seconds in report.seconds_by_stage.items()
            ],
        )
    if report.failures:
        print_counts("Failed images by cause", report.failures)
        say(f"once more for the failed ones: pad-pipeline retry-failed {report.output}")
    say(f"data set: {report.output}")


def print_demo(result: DemoResult) -> None:
    """The summary of a demo, its quality table and where to look."""
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
    say(f"look at:  {result.overview}")
    say(f"images:   {result.images}")
    say(f"records:  {result.annotations}")


def print_export(report: ExportReport) -> None:
    """What an export wrote and what it left out."""
    say(
        f"wrote {report.num_images:,} images with {report.num_regions:,} regions to {report.dest}"
        f" ({report.format})"
    )
    for reason, count in report.left_out.items():
        say(f"left out: {count:,} images ({reason})")
    if report.state != "finished":
        say("the data set is not finished: the export holds what there was")


def print_validation(report: ValidationReport) -> None:
    """What a validation found, problem by problem."""
    for title, counts, listed in (
        ("problem", report.num_problems, report.problems),
        ("warning", report.num_warnings, report.warnings),
    ):
        for problem in listed:
            place = " ".join(part for part in (problem.shard, problem.image_id) if part)
            say(f"{title}: {place}: {problem.message}")
        hidden = sum(counts.values()) - len(listed)
        if hidden > 0:
            say(f"… and {hidden:,} more {title}s: {_counts(counts)}")
    statuses = _counts(report.images_by_status)
    say(
        f"{report.num_images:,} images ({statuses}), {report.num_regions:,} regions in "
        f"{report.num_shards:,} shards"
    )
    if report.mask_inside_box is not None:
        say(f"{report.mask_inside_box:.1%} of the mask pixels lie in their box grown by a tenth")
    if report.state != "finished":
        say("the data set is not finished; run the same annotate command again")
    say("valid" if report.ok else f"NOT valid: {_counts(report.num_problems)}")


def print_stats(stats: Stats, *, json: str | None, png: str | None) -> None:
    """Counts and histograms as text; also to the files that are named."""
    from pad_pipeline.dataset.stats import to_dict, to_text

    say(to_text(stats))
    if json is not None:
        text = json_module.dumps(to_dict(stats), indent=2, ensure_ascii=False) + "\n"
        write_text(json, text)
        say(f"wrote {json}")
    if png is not None:
        from pad_pipeline.dataset.stats_plot import plot  # matplotlib takes a second to import

        plot(stats, png)
        say(f"wrote {png}")


def print_render(report: RenderReport) -> None:
    """How many pictures were drawn and where."""
    say(f"drew {report.num_images:,} images into {report.dest}")
    for reason, count in report.left_out.items():
        say(f"left out: {count:,} images ({reason})")


def print_models() -> None:
    """The known models and those on disk."""
    from pad_pipeline.models import models_folder
    from pad_pipeline.models.catalogue import list_models

    for entry in list_models():
        known = entry.known
        title = known.title if known else "embedded small model" if entry.role else "your own"
        say(f"{entry.reference}  ({entry.role or 'unknown'}: {title})")
        if known is not None:
            say(f"    weights: {known.source} {known.file}, {known.size_gb:g} GB, {known.licence}")
            if known.convert is not None:
                also = f", with {known.also}" if known.also else ""
                say(f"    needs `pad-pipeline models convert {known.convert}`{also}")
        say(f"    on disk: {entry.path or 'no'}")
    say(f"models folder: {models_folder()} (set PAD_MODELS to change it)")


def print_verification(rows: Sequence[VerifyRow]) -> None:
    """One row per compared output."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("output", overflow="fold")
    table.add_column("largest difference", justify="right", no_wrap=True)
    table.add_column("allowed", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("note", overflow="fold")
    for row in rows:
        difference = "" if row.max_abs_difference is None else f"{row.max_abs_difference:.2e}"
        allowed = "" if row.allowed is None else f"{row.allowed:.0e}"
        verdict = Text("ok", style="green") if row.ok else Text("DIFFERS", style="bold red")
        table.add_row(Text(row.name), difference, allowed, verdict, Text(row.note))
    print_table(table)
    bad = sum(not row.ok for row in rows)
    say(f"{len(rows)} outputs compared, {bad} differ" if bad else f"{len(rows)} outputs, all agree")


def print_pairs(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """A title and two columns."""
    say(title)
    table = Table(box=None, show_header=False, pad_edge=True)
    table.add_column(no_wrap=True)
    table.add_column(justify="right")
    for name, value in rows:
        table.add_row(Text(name), Text(value))
    print_table(table)
    say("")


def print_counts(title: str, counts: Mapping[str, int]) -> None:
    """A title and a count per row."""
    print_pairs(title, [(name, f"{count:,}") for name, count in counts.items()])


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"


def print_table(renderable: Any) -> None:
    """A table on stdout, of the terminal's width or a fixed one."""
    width = None if sys.stdout.isatty() else PLAIN_WIDTH
    Console(file=sys.stdout, width=width).print(renderable)


def write_text(path: str, text: str) -> None:
    """Write a file that the user has named; `UserError` where that fails."""
    from pad_pipeline.errors import UserError

    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
