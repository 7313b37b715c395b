"""The data card of an export: `README.md`, which says what is in it to people and `datasets`.

A folder of shards has none, as pyarrow would take it for one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARD = "README.md"

_COLUMNS = """\
| column | |
|---|---|
| `image_id`, `uri`, `width`, `height` | the image, and its pixels after EXIF rotation |
| `caption`, `captions` | the first caption, and all where there are several |
| `status`, `error` | `ok`, `empty` (nothing found) or `failed`, and why |
| `tags` | all tags of the image with score and origin |
| `labels` | the regions |
| `labels.bbox` | x0, y0, x1, y1 in pixels of the image |
| `labels.rle_mask` | COCO's compressed run lengths, of the image's height and width |
| `labels.predicted_iou` | the segmenter's own estimate of the mask |
"""


def format_card(
    data_files: Mapping[str, str],
    counts: Mapping[str, int],
    manifest: Mapping[str, Any],
    notes: str = "",
) -> str:
    """The text of a card.

    Args:
        data_files: Patterns of the Parquet files, by split.
        counts: What to count to readers, such as {"images": 48}, in their order.
        manifest: The data set's manifest, for its models and versions.
        notes: More to say, in Markdown.
    """
    lines = ["---", "tags:", "- pad-pipeline", "task_categories:"]
    lines += ["- image-segmentation", "- object-detection"]
    lines += ["configs:", "- config_name: default", "  data_files:"]
    for split, pattern in data_files.items():
        lines += [f"  - split: {split}", f'    path: "{pattern}"']
    lines += ["---", "", "# Patch-Aligned Dataset", ""]
    lines.append(", ".join(f"{count:,} {name}" for name, count in counts.items()) + ".")
    lines += ["", *_COLUMNS.splitlines()]
    models = manifest.get("models")
    if isinstance(models, dict) and models:
        lines += ["", "| stage | model | checksum |", "|---|---|---|"]
        for stage, facts in models.items():
            facts = facts if isinstance(facts, dict) else {}
            cells = (stage, facts.get("model", ""), str(facts.get("checksum", ""))[:19])
            lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    versions = manifest.get("versions")
    if isinstance(versions, dict) and versions:
        named = ", ".join(f"{_cell(name)} {_cell(value)}" for name, value in versions.items())
        lines += ["", f"Made with {named}."]
    lines += ["", "The images keep the licences that they have; the models have theirs."]
    return "\n".join([*lines, *(["", notes] if notes else []), ""])


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", " ").split())
