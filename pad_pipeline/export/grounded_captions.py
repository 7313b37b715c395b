"""The export to grounded captions: every phrase of a caption with its boxes and masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.records import PadRecord
from pad_pipeline.storage.atomic import new_file


def write_grounded_captions(chosen: Chosen, dest: str) -> Counter[str]:
    """A JSON array of captions that have phrases, each with the regions of its phrases' tags.

    `span` is the phrase's place in the caption, in code points. Raises `UserError` where no caption
    has a phrase.
    """
    counts: Counter[str] = Counter()
    written: Counter[str] = Counter()

    def captions() -> Iterator[dict[str, Any]]:
        for entry in chosen.entries(counts):
            record = entry.record
            found = list(_captions(record))
            if not found:
                counts["images"] -= 1
                counts["regions"] -= len(record.labels)
                counts["no phrase"] += 1
            for caption in found:
                written["captions"] += 1
                yield caption

    with new_file(dest) as file:
        write_array(file, captions())
        file.write(b"\n")
        if counts["no phrase"] and not written["captions"]:
            raise UserError(
                f"no caption of {chosen.dataset.url} has a phrase to export; "
                "`pad-pipeline annotate --tag.from captions` finds them"
            )
    return counts


def _captions(record: PadRecord) -> Iterator[dict[str, Any]]:
    for index, caption in enumerate(record.all_captions):
        phrases = [
            {
                "phrase": caption[tag.caption_start : tag.caption_end],
                "tag": tag.tag,
                "span": [tag.caption_start, tag.caption_end],
                "regions": [
                    {
                        "bbox": list(region.bbox),
                        "rle_mask": region.rle_mask,
                        "score": region.score,
                        "predicted_iou": region.predicted_iou,
                    }
                    for region in record.labels
                    if region.tag == tag.tag
                ],
            }
            for tag in record.tags
            if tag.caption_index == index
        ]
        if phrases:
            yield {
                "image_id": record.image_id,
                "size": [record.width, record.height],
                "caption": caption,
                "phrases": phrases,
            }
