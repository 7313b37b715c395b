"""What `models list`, `models verify` and `models compare-precision` print."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from pad_pipeline.cli.reports.output import print_pairs, print_table, say
from pad_pipeline.errors import plural

if TYPE_CHECKING:
    from pad_pipeline.annotate.compare_precision import PrecisionChanges
    from pad_pipeline.photos.check import Verdict
    from pad_pipeline.verify.rows import VerifyRow


def print_models() -> None:
    """The known models and those on disk."""
    from pad_pipeline.models.catalogue import list_models
    from pad_pipeline.models.references import models_folder

    for entry in list_models():
        known = entry.known
        title = known.title if known else "embedded small model" if entry.role else "your own"
        say(f"{entry.reference}  ({entry.role or 'unknown'}: {title})")
        if known is not None:
            say(f"    weights: {known.source} {known.file}, {known.size_gb:g} GB, {known.licence}")
            if known.is_gated:
                say(
                    "    gated: accept its terms on that page, then `hf auth login` or set HF_TOKEN"
                )
            say(f"    get it by `pad-pipeline models fetch {known.reference}`")
        say(f"    on disk: {entry.path or 'no'}")
    say(f"models folder: {models_folder()} (set PAD_MODELS to change it)")


def print_verdict(verdict: Verdict) -> None:
    """A line per photograph, and whether the model passes."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("photograph", overflow="fold")
    table.add_column("")
    table.add_column("missed", overflow="fold")
    for finding in verdict.findings:
        mark = Text("WRONG", style="bold red") if finding.missed else Text("ok", style="green")
        table.add_row(Text(finding.photograph), mark, Text(", ".join(finding.missed)))
    print_table(table)
    right = sum(not finding.missed for finding in verdict.findings)
    outcome = "passes" if verdict.passed else "FAILS"
    say(
        f"{verdict.role} {verdict.model} {outcome}: right in {right} of "
        f"{plural(len(verdict.findings), 'photograph')}"
    )


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


NUM_WORST = 10
"""Images that `print_precision` names."""


def print_precision(changes: PrecisionChanges) -> None:
    """How much the masks change, and the images in which they change most."""
    facts = changes.to_dict()
    how = (
        "8-bit products emulated on the CPU in float32: a GPU's differ in the order of its sums"
        if changes.emulated
        else f"on {changes.device}"
    )
    failed = f", {changes.num_failed} of them failed" if changes.num_failed else ""
    say(f"{facts['num_masks']} masks of {changes.num_images} images{failed}; {how}")
    print_pairs(
        f"{changes.quantize} against {changes.dtype}, mask by mask",
        [
            ("IoU of the masks, mean", f"{facts['mask_iou_mean']:.4f}"),
            ("5 % of the masks are below", f"{facts['mask_iou_quantile_5']:.4f}"),
            ("least", f"{facts['mask_iou_least']:.4f}"),
            ("difference of predicted IoU, median", _small(facts, "median")),
            ("largest", _small(facts, "largest")),
        ],
    )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("images that change most", overflow="fold")
    table.add_column("mask of", overflow="fold")
    table.add_column("IoU", justify="right", no_wrap=True)
    table.add_column("predicted IoU", justify="right", no_wrap=True)
    for change in changes.worst_images(NUM_WORST):
        moved = f"{change.predicted_iou:+.4f}"
        table.add_row(Text(change.image_id), Text(change.label), f"{change.iou:.4f}", moved)
    print_table(table)


def _small(facts: Mapping[str, Any], name: str) -> str:
    return f"{facts[f'predicted_iou_difference_{name}']:.4f}"
