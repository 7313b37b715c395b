"""The export to COCO: one instances file that pycocotools loads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from pad_pipeline.dataset.reader import Dataset
from pad_pipeline.dataset.selection import Selection
from pad_pipeline.export.json_writing import iter_annotated, write_array
from pad_pipeline.storage.atomic import new_file


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
        for number, record in enumerate(
            iter_annotated(dataset, select, counts, masks=False), start=1
        ):
            names.update(region.tag for region in record.labels)
            yield {
                "id": number,
                "file_name": record.image_id,
                "width": record.width,
                "height": record.height,
            }

    def annotations(categories: dict[str, int]) -> Iterator[dict[str, Any]]:
        annotation_id = 0
        for number, record in enumerate(iter_annotated(dataset, select, Counter()), start=1):
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
        write_array(file, coco_images())
        categories = {name: number for number, name in enumerate(sorted(names), start=1)}
        file.write(b',\n"annotations": ')
        write_array(file, annotations(categories))
        file.write(b',\n"categories": ')
        write_array(file, ({"id": number, "name": name} for name, number in categories.items()))
        file.write(b"}\n")
    return counts
