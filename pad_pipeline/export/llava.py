"""The export to LLaVA's pre-training file: images with their captions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pad_pipeline.dataset.reader import Dataset, iter_records
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.records import PadRecord
from pad_pipeline.storage.atomic import new_file

PROMPT = "Describe the image briefly.\n<image>"
"""The human's turn; LLaVA's pre-training reads the image and the answer only."""


def write_llava(
    dataset: Dataset, dest: str, select: Selection, images: str | None = None
) -> Counter[str]:
    """The form of `blip_laion_cc_sbu_558k.json`, for the images that have a caption.

    Raises `UserError` where there are images and none has one.
    """
    del images
    counts: Counter[str] = Counter()

    def conversations() -> Iterator[dict[str, Any]]:
        for record in iter_records(dataset, select, masks=False):
            reason = (
                "failed" if record.status == "failed" else None if record.caption else "no caption"
            )
            counts[reason or "images"] += 1
            if reason is None:
                counts["regions"] += len(record.labels)
                yield _to_llava(record)

    with new_file(dest) as file:
        write_array(file, conversations())
        file.write(b"\n")
        if counts["no caption"] and not counts["images"]:
            raise UserError(
                f"none of the {counts['no caption']:,} images of {dataset.url} that did not fail "
                "has a caption to export; `pad-pipeline annotate --captions FILE` takes them along"
            )
    return counts


def _to_llava(record: PadRecord) -> dict[str, Any]:
    return {
        "id": record.image_id,  # with its ending, because cat.jpg and cat.png are two
        "image": record.image_id,
        "conversations": [
            {"from": "human", "value": PROMPT},
            {"from": "gpt", "value": record.caption},
        ],
    }
