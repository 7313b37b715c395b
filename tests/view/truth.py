"""A ground truth of the example data set: of each kind of mistake one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tests.dataset.example import HEIGHT, WIDTH, ellipse, example_records, region

APPLE, BOAT = ellipse(12, 10, 8, 7), ellipse(27, 20, 9, 6)


def write_truth(path: Path, *, masks: bool = True, **changes: Any) -> str:
    """Image 0: the apple is found, the boat is missed, which the data set has too; 3: a boat that
    was taken for an apple; 4: one of two trees; 2, which failed, has an apple."""
    names = ["apple", "boat", "tree"]
    things: list[tuple[int, str, np.ndarray]] = [
        (0, "apple", APPLE),
        (0, "boat", ellipse(5, 25, 4, 4)),
        (2, "apple", APPLE),
        (3, "boat", BOAT),
        (4, "tree", APPLE),
    ]
    annotations = []
    for number, (image, name, mask) in enumerate(things):
        found = region(name, mask)
        x0, y0, x1, y1 = found.bbox
        annotations.append(
            {
                "id": number,
                "image_id": image + 1,
                "category_id": names.index(name) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": found.area,
                "iscrowd": 0,
                **({"segmentation": _rle(found.rle_mask)} if masks else {}),
            }
        )
    images = [
        {"id": n + 1, "file_name": one.image_id, "width": WIDTH, "height": HEIGHT}
        for n, one in enumerate(example_records()[:6])
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 1)]
    whole = {"images": images, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(whole | changes))
    return str(path)


def _rle(counts: str) -> dict[str, Any]:
    return {"size": [HEIGHT, WIDTH], "counts": counts}
