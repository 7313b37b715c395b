"""The export to COCO: one instances file that pycocotools loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pad_pipeline.export.chosen import Chosen, captions_of, clipped
from pad_pipeline.export.json_writing import json_bytes, write_array
from pad_pipeline.storage.atomic import new_file

OUTSIDE = "regions outside of their image"
_LICENSE = {"id": 1, "name": "the license of each image; see where it comes from", "url": ""}


def write_coco(chosen: Chosen, dest: str) -> Counter[str]:
    """One COCO instances file: compressed masks, boxes as x, y, width, height, scores.

    Categories are the tags of all regions of the data set, numbered from 1 by name; images and
    annotations have their places in the data set as ids. So ids stay what they are in every
    selection and part. The records are read twice, since all images come before the first
    annotation.
    """
    counts: Counter[str] = Counter()
    categories = chosen.categories()

    def images() -> Iterator[dict[str, Any]]:
        for entry in chosen.entries(counts, masks=False):
            record = entry.record
            yield {
                "id": entry.number,
                "file_name": record.image_id,
                "width": record.width,
                "height": record.height,
                "license": _LICENSE["id"],
                **captions_of(record),
            }

    def annotations() -> Iterator[dict[str, Any]]:
        for entry in chosen.entries(Counter()):
            record = entry.record
            size = (record.width, record.height)
            for number, region in zip(entry.region_numbers, record.labels, strict=True):
                box = clipped(region.bbox, *size, chosen.options.clip)
                if box is None:
                    counts[OUTSIDE] += 1
                    counts["regions"] -= 1
                    continue
                x0, y0, x1, y1 = box
                yield {
                    "id": number,
                    "image_id": entry.number,
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
        file.write(b'{"info": ' + json_bytes(_info(chosen)) + b',\n"licenses": ')
        write_array(file, [_LICENSE])
        file.write(b',\n"images": ')
        write_array(file, images())
        file.write(b',\n"annotations": ')
        write_array(file, annotations())
        file.write(b',\n"categories": ')
        write_array(file, ({"id": number, "name": name} for name, number in categories.items()))
        file.write(b"}\n")
    return counts


def _info(chosen: Chosen) -> dict[str, Any]:
    models = chosen.dataset.manifest.get("models")
    return {
        "description": "Patch-Aligned Dataset",
        "version": "1",
        "contributor": "pad-pipeline",
        "models": models if isinstance(models, dict) else {},
        **({"part": chosen.part} if chosen.part else {}),
    }
