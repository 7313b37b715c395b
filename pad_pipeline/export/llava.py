"""The export to LLaVA's pre-training file: images with their captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pad_pipeline.dataset.reader import Dataset, iter_records
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.records import PadRecord
from pad_pipeline.storage.atomic import new_file

_NUMBERED = re.compile(r"#\d+$")

PROMPT = "Describe the image briefly.\n<image>"
"""The human's turn; LLaVA's pre-training reads the image and the answer only."""


def write_llava(
    dataset: Dataset, dest: str, select: Selection, images: str | None = None
) -> Counter[str]:
    """The form of `blip_laion_cc_sbu_558k.json`, for the images that have a caption.

    An image with several captions has an entry for each. Raises `UserError` where there are images
    and none has one.
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
                yield from _to_llava(record)

    with new_file(dest) as file:
        write_array(file, conversations())
        file.write(b"\n")
        if counts["no caption"] and not counts["images"]:
            raise UserError(
                f"none of the {counts['no caption']:,} images of {dataset.url} that did not fail "
                "has a caption to export; `pad-pipeline annotate --captions FILE` takes them along"
            )
    return counts


def _to_llava(record: PadRecord) -> Iterator[dict[str, Any]]:
    for number, caption in enumerate(record.all_captions, start=1):
        yield {
            "id": _entry_id(record.image_id, number),
            "image": record.image_id,
            "conversations": [
                {"from": "human", "value": PROMPT},
                {"from": "gpt", "value": caption},
            ],
        }


def _entry_id(image_id: str, number: int) -> str:
    """The image's id, with its ending because cat.jpg and cat.png are two; from the second entry on
    with its number, as also where the id itself ends like one."""
    return f"{image_id}#{number}" if number > 1 or _NUMBERED.search(image_id) else image_id
