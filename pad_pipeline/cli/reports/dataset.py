"""What `export`, `import`, `validate`, `stats` and `render` print."""

from __future__ import annotations

import json as json_module
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pad_pipeline.cli.reports.output import say, write_text
from pad_pipeline.errors import plural

if TYPE_CHECKING:
    from pad_pipeline.dataset.render import RenderReport
    from pad_pipeline.dataset.stats import Stats
    from pad_pipeline.dataset.validate import ValidationReport
    from pad_pipeline.export.formats import ExportReport
    from pad_pipeline.importer.formats import ImportReport


def print_export(report: ExportReport) -> None:
    """What an export wrote and what it left out."""
    say(
        f"wrote {report.num_images:,} images with {report.num_regions:,} regions to {report.dest}"
        f" ({report.format})"
    )
    if report.parts:
        say("; ".join(f"{part}: {plural(count, 'image')}" for part, count in report.parts.items()))
    _print_left_out(report.left_out)
    if report.together:
        say(report.together)


def print_import(report: ImportReport) -> None:
    """What an import wrote and what it left out, with the first names."""
    empty = f", {report.num_empty:,} of them without regions" if report.num_empty else ""
    say(
        f"wrote {plural(report.num_images, 'image')}{empty}, with "
        f"{plural(report.num_regions, 'region')} to {report.output}"
    )
    for reason, count in report.left_out.items():
        named = report.examples[reason]
        more = ", …" if count > len(named) else ""
        say(f"left out: {reason}: {count:,} ({', '.join(named)}{more})")


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
            say(f"… and {hidden:,} more {title}s: {_join_counts(counts)}")
    statuses = _join_counts(report.images_by_status)
    say(
        f"{report.num_images:,} images ({statuses}), {report.num_regions:,} regions in "
        f"{report.num_shards:,} shards"
    )
    if report.mask_inside_box is not None:
        say(f"{report.mask_inside_box:.1%} of the mask pixels lie in their box grown by a tenth")
    if report.state != "finished":
        say("the data set is not finished; run the same annotate command again")
    say("valid" if report.ok else f"NOT valid: {_join_counts(report.num_problems)}")


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
    say(f"drew {plural(report.num_images, 'image')} into {report.dest}")
    _print_left_out(report.left_out)


def _print_left_out(left_out: Mapping[str, int]) -> None:
    for reason, count in left_out.items():
        first, _, rest = reason.partition(" ")
        of_regions = first == "regions"
        number = plural(count, "region" if of_regions else "image")
        say(f"left out: {number} ({rest if of_regions else reason})")


def _join_counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "none"
