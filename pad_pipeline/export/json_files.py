"""The exports that are one JSON file, written record by record: PAD JSON, COCO, LLaVA."""

from __future__ import annotations

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

from pad_pipeline.dataset.reader import Dataset, iter_records
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.errors import UserError
from pad_pipeline.records import PadRecord, to_pad_json
from pad_pipeline.storage.atomic import new_file

LLAVA_PROMPT = "Describe the image briefly.\n<image>"
"""The human's turn; LLaVA's pre-training reads the image and the answer only."""


def write_pad_json(
    dataset: Dataset, dest: str, select: Selection, images: str | None = None
) -> Counter[str]:
    """An array of records with exactly the keys of the paper's Table 9, one per line."""
    del images  # no picture is read
    counts: Counter[str] = Counter()
    with new_file(dest) as file:
        _write_array(file, map(to_pad_json, _annotated(dataset, select, counts)))
        file.write(b"\n")
    return counts


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
        _write_array(file, conversations())
        file.write(b"\n")
        if counts["no caption"] and not counts["images"]:
            raise UserError(
                f"none of the {counts['no caption']:,} images of {dataset.url} that did not fail "
                "has a caption to export; `pad-pipeline annotate --captions FILE` takes them along"
            )
    return counts


def write_coco(
    dataset: Dataset, dest: str, select: Selection, images: str | None = None
) -> Counter[str]:
    """One COCO instances file: compressed masks, boxes as x, y, width, height, scores.

    Images, annotations and categories are numbered from 1, categories by name. The records are
    read twice, since all images come before the first annotation.
    """
    del images
    counts: Counter[str] = Counter()
    names: set[str] = set()

    def coco_images() -> Iterator[dict[str, Any]]:
        for number, record in enumerate(_annotated(dataset, select, counts, masks=False), start=1):
            names.update(region.tag for region in record.labels)
            yield {
                "id": number,
                "file_name": record.image_id,
                "width": record.width,
                "height": record.height,
            }

    def annotations(categories: dict[str, int]) -> Iterator[dict[str, Any]]:
        annotation_id = 0
        for number, record in enumerate(_annotated(dataset, select, Counter()), start=1):
            for region in record.labels:
                annotation_id += 1
                x0, y0, x1, y1 = region.bbox
                yield {
                    "id": annotation_id,
                    "image_id": number,
                    "category_id": categories[region.tag],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": region.area,
                    "iscrowd": 0,
                    "segmentation": {
                        "size": [record.height, record.width],
                        "counts": region.rle_mask,
                    },
                    "score": region.score,
                    "predicted_iou": region.predicted_iou,
                }

    with new_file(dest) as file:
        file.write(
            b'{"info": {"description": "Patch-Aligned Dataset", "version": "1"},\n"images": '
        )
        _write_array(file, coco_images())
        categories = {name: number for number, name in enumerate(sorted(names), start=1)}
        file.write(b',\n"annotations": ')
        _write_array(file, annotations(categories))
        file.write(b',\n"categories": ')
        _write_array(file, ({"id": number, "name": name} for name, number in categories.items()))
        file.write(b"}\n")
    return counts


def _annotated(
    dataset: Dataset, select: Selection, counts: Counter[str], *, masks: bool = True
) -> Iterator[PadRecord]:
    """The records that did not fail, counted."""
    for record in iter_records(dataset, select, masks=masks):
        if record.status == "failed":
            counts["failed"] += 1
            continue
        counts["images"] += 1
        counts["regions"] += len(record.labels)
        yield record


def _to_llava(record: PadRecord) -> dict[str, Any]:
    return {
        "id": posixpath.splitext(record.image_id)[0],
        "image": record.image_id,
        "conversations": [
            {"from": "human", "value": LLAVA_PROMPT},
            {"from": "gpt", "value": record.caption},
        ],
    }


def _write_array(file: BinaryIO, items: Iterable[dict[str, Any]]) -> None:
    file.write(b"[")
    separator = b"\n"
    for item in items:
        file.write(separator + json_bytes(item))
        separator = b",\n"
    file.write(b"\n]")


def json_bytes(item: dict[str, Any]) -> bytes:
    """One line of JSON; raises `UserError` where a number is not finite, which JSON cannot hold."""
    try:
        text = json.dumps(item, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        name = item.get("image_id", item.get("id"))
        raise UserError(
            f"image {name} has a box or score that is not finite; `pad-pipeline validate` "
            "lists such records"
        ) from error
    return text.encode("utf-8", "surrogatepass")
