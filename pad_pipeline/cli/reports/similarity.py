"""What `embed` and `duplicates` print."""

from __future__ import annotations

import json as json_module
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from pad_pipeline.cli.reports.output import say, write_text
from pad_pipeline.drawing.terminal import printable
from pad_pipeline.errors import plural

if TYPE_CHECKING:
    from pad_pipeline.similarity.duplicates import Group
    from pad_pipeline.similarity.embed import EmbedReport

_SHOWN_GROUPS, _SHOWN_IMAGES = 20, 5


def print_embedding(dataset: str, report: EmbedReport) -> None:
    """What was embedded and where it lies."""
    for reason, count in report.left_out.items():
        say(f"left out: {plural(count, 'image')} ({reason})")
    if report.num_shards_kept:
        say(f"kept the embeddings of {plural(report.num_shards_kept, 'shard')} that were there")
    say(f"near-duplicates: {plural(report.num_pairs, 'pair')}; map by {report.map_kind.upper()}")
    say(
        f"wrote the embeddings of {plural(report.num_images, 'image')} and "
        f"{plural(report.num_regions, 'region')} by {report.model} to {report.folder}"
    )
    say(f"to see them: {shlex.join(['pad-pipeline', 'duplicates', dataset])}, or view")


def print_duplicates(groups: Sequence[Group], *, json: str | None) -> None:
    """Groups of near-duplicates, one a line; all of them to the file that is named."""
    for group in groups[:_SHOWN_GROUPS]:
        names = ", ".join(printable(name) for name in group.image_ids[:_SHOWN_IMAGES])
        more = len(group.image_ids) - _SHOWN_IMAGES
        say(f"{group.similarity:.3f}  {names}" + (f" and {more:,} more" if more > 0 else ""))
    if len(groups) > _SHOWN_GROUPS:
        say(f"… and {plural(len(groups) - _SHOWN_GROUPS, 'more group', 'more groups')}")
    total = sum(len(group.rows) for group in groups)
    say(f"{plural(total, 'image')} in {plural(len(groups), 'group')} of near-duplicates")
    if json is not None:
        write_text(json, json_module.dumps([asdict(one) for one in groups], indent=2) + "\n")
        say(f"wrote {json}")
