"""The export to phrase grounding as JSON Lines: a phrase, its place in the caption, its boxes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from pad_pipeline.export.chosen import Chosen, Entry
from pad_pipeline.export.json_writing import json_bytes
from pad_pipeline.storage.atomic import new_file


def write_grit(chosen: Chosen, dest: str) -> Counter[str]:
    """A line for each image, as in GRIT (Kosmos-2): caption, noun phrases, boxes as shares.

    `noun_chunks` has [start, end, x0, y0, x1, y1, score] for every region whose tag is a phrase of
    the caption (characters `start` to `end`), and `ref_exps` the same. Images without such a region
    are left out and counted.
    """
    counts: Counter[str] = Counter()
    with new_file(dest) as file:
        for entry in chosen.entries(counts, masks=False):
            line = _line(entry)
            if line is None:
                counts["images"] -= 1
                counts["regions"] -= len(entry.record.labels)
                counts["no phrase of the caption has a region"] += 1
                continue
            file.write(json_bytes(line) + b"\n")
    return counts


def _line(entry: Entry) -> dict[str, Any] | None:
    record = entry.record
    places = {
        tag.tag: (tag.caption_start, tag.caption_end)
        for tag in reversed(record.tags)
        if tag.caption_start is not None and tag.caption_index in (0, None)
    }
    chunks = []
    for region in record.labels:
        if region.tag in places:
            x0, y0, x1, y1 = region.bbox
            shares = [x0 / record.width, y0 / record.height, x1 / record.width, y1 / record.height]
            shares = [min(max(share, 0.0), 1.0) for share in shares]
            chunks.append([*places[region.tag], *shares, region.score])
    if not chunks:
        return None
    return {
        "key": record.image_id,
        "caption": record.caption,
        "width": record.width,
        "height": record.height,
        "url": record.uri,
        "noun_chunks": chunks,
        "ref_exps": chunks,
    }
