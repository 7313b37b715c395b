"""The export to LabelMe: a JSON file of polygons beside each image."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from pad_pipeline.export.chosen import Chosen, Entry, captions_of
from pad_pipeline.export.image_files import FileNames, iter_images, write_file
from pad_pipeline.export.region_polygons import NO_MASK, region_loops
from pad_pipeline.polygons import join
from pad_pipeline.storage.atomic import new_folder


def write_labelme(chosen: Chosen, dest: str) -> Counter[str]:
    """A folder that `labelme DEST` opens; with a split, one for each part.

    A mask is one polygon, its parts and holes joined by bridges of no width; the score stands in
    the shape's description. The image's id and captions stand beside the shapes, where LabelMe
    leaves them.
    """
    counts: Counter[str] = Counter()
    names = FileNames()
    with new_folder(dest) as folder:
        for image in iter_images(chosen, counts):
            name = names(image.entry.record, image.data)
            place = f"{image.entry.part}/{name}" if chosen.options.shares else name
            write_file(folder, place, image.data)
            text = json.dumps(_document(chosen, image.entry, name, counts), ensure_ascii=False)
            data = (text + "\n").encode("utf-8", "surrogatepass")
            write_file(folder, f"{place.rpartition('.')[0]}.json", data)
    return counts


def _document(chosen: Chosen, entry: Entry, name: str, counts: Counter[str]) -> dict[str, Any]:
    record = entry.record
    shapes = []
    for number, region in enumerate(record.labels, start=1):
        loops = region_loops(record, region, chosen.options.polygon_tolerance)
        if not loops:
            counts[NO_MASK] += 1
            counts["regions"] -= 1
            continue
        shapes.append(
            {
                "label": region.tag,
                "points": join(loops).tolist(),
                "group_id": number,
                "description": f"score {region.score:.3f}",
                "shape_type": "polygon",
                "flags": {},
                "mask": None,
            }
        )
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name.rpartition("/")[2],
        "imageData": None,
        "imageHeight": record.height,
        "imageWidth": record.width,
        "image_id": record.image_id,
        **captions_of(record),
    }
