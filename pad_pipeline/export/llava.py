"""The export to LLaVA's pre-training file: images with their captions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.storage.atomic import new_file

PROMPT = "Describe the image briefly.\n<image>"
"""The human's turn; LLaVA's pre-training reads the image and the answer only."""

_NUMBERED = re.compile(r"#\d+$")


def write_llava(chosen: Chosen, dest: str) -> Counter[str]:
    """The form of `blip_laion_cc_sbu_558k.json`, an entry for every caption of an image.

    Raises `UserError` where there are images and none has a caption.
    """
    counts: Counter[str] = Counter()

    def conversations() -> Iterator[dict[str, Any]]:
        for entry in chosen.entries(counts, masks=False):
            record = entry.record
            captions = [caption for caption in record.all_captions if caption]
            if not captions:
                counts["images"] -= 1
                counts["regions"] -= len(record.labels)
                counts["no caption"] += 1
            for number, caption in enumerate(captions, start=1):
                yield _conversation(record.image_id, number, caption)

    with new_file(dest) as file:
        write_array(file, conversations())
        file.write(b"\n")
        if counts["no caption"] and not counts["images"]:
            raise UserError(
                f"none of the {counts['no caption']:,} images of {chosen.dataset.url} that did not "
                "fail has a caption to export; `pad-pipeline annotate --captions FILE` takes them "
                "along"
            )
    return counts


def _conversation(image_id: str, number: int, caption: str) -> dict[str, Any]:
    return {
        "id": _entry_id(image_id, number),
        "image": image_id,
        "conversations": [
            {"from": "human", "value": PROMPT},
            {"from": "gpt", "value": caption},
        ],
    }


def _entry_id(image_id: str, number: int) -> str:
    """The image's id, with its ending because cat.jpg and cat.png are two; from the second entry on
    with its number, as also where the id itself ends like one."""
    return f"{image_id}#{number}" if number > 1 or _NUMBERED.search(image_id) else image_id
