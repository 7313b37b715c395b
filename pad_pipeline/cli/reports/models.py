"""What `models list` and `models verify` print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.table import Table
from rich.text import Text

from pad_pipeline.cli.reports.output import print_table, say

if TYPE_CHECKING:
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
            say(f"    get it by `pad-pipeline models fetch {known.reference}`")
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
