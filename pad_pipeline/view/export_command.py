"""The command that exports what a page shows: its filters as options, and the marks that count."""

from __future__ import annotations

import shlex

from pad_pipeline.review.log import review_url
from pad_pipeline.review.marks import Marks
from pad_pipeline.view.filters import Filters

IDS = "ids.txt"
_DEST = "export.json"
_SAID = ("tag", "status", "min_score", "min_area", "min_iou", "sort", "reverse")
"""Filters that options say, or that leave nothing out."""


def export_commands(
    url: str, filters: Filters, marks: Marks, review: str, base_url: str
) -> list[str]:
    """The lines to type: the export of the images that pass, with their marks.

    Filters that the options of `export` cannot say become a file of ids, which the first line
    fetches from the viewer at `base_url`. `review` is the file of the marks.
    """
    words = ["pad-pipeline", "export", url, _DEST, "--format", "coco"]
    first: list[str] = []
    flags, is_exact = _selection(filters)
    if not is_exact:
        address = base_url.rstrip("/") + filters.address("/api/ids")
        first = [shlex.join(["curl", "--fail", "--output", IDS, address])]
        flags += ["--ids", IDS]
    return [*first, shlex.join([*words, *flags, *_review(url, filters, marks, review)])]


def _selection(filters: Filters) -> tuple[list[str], bool]:
    """Options that choose regions, and whether they choose the images of the filters too."""
    flags: list[str] = []
    for option, value in (
        ("--min-score", filters.min_score),
        ("--min-area", filters.min_area),
        ("--min-predicted-iou", filters.min_iou),
    ):
        if value:
            flags += [option, f"{value:.9g}"]
    on_regions = bool(flags)
    if filters.tag and not filters.boxed:
        on_regions = True
        flags += ["--tags", *filters.tag]
    fields = type(filters).model_fields
    others = (name for name in fields if name not in _SAID)
    statuses = ("", "ok") if on_regions else ("", "ok", "empty", "failed")
    is_exact = (
        all(getattr(filters, name) == fields[name].default for name in others)
        and len(filters.tag) <= 1
        and filters.status in statuses
    )
    if is_exact and (on_regions or filters.status):
        flags += ["--status", filters.status or "ok"]
    return flags, is_exact


def _review(url: str, filters: Filters, marks: Marks, review: str) -> list[str]:
    flags: list[str] = []
    if filters.review == "accepted":
        flags = ["--only-accepted"]
    elif marks.counts["rejected"] and filters.review != "rejected":
        flags = ["--without-rejected"]
    if review != review_url(url, None) or (marks.counts["renamed"] and not flags):
        flags += ["--review", review]
    return flags
