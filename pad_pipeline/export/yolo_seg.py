"""The export to YOLO's segmentation data: images, a text file of polygons for each, data.yaml."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np

from pad_pipeline.export.chosen import Chosen
from pad_pipeline.export.image_files import FileNames, iter_images, write_file
from pad_pipeline.export.region_polygons import NO_MASK, region_loops
from pad_pipeline.polygons import join
from pad_pipeline.storage.atomic import new_folder


def write_yolo_seg(chosen: Chosen, dest: str) -> Counter[str]:
    """A folder that `yolo segment train data=DEST/data.yaml` takes.

    `images/PART/…` and `labels/PART/….txt` with a line for each region: its class and its polygon,
    x and y as shares of the image. A mask of several parts or with holes is one polygon whose parts
    are joined by bridges of no width. Classes are the tags of the data set by name. Raises
    `UserError` where no image at all can be read.
    """
    counts: Counter[str] = Counter()
    classes = {name: number - 1 for name, number in chosen.categories().items()}
    names = FileNames()
    with new_folder(dest) as folder:
        for image in iter_images(chosen, counts):
            record, part = image.entry.record, image.entry.part
            name = names(record, image.data)
            lines = []
            for region in record.labels:
                loops = region_loops(record, region, chosen.options.polygon_tolerance)
                if not loops:
                    counts[NO_MASK] += 1
                    counts["regions"] -= 1
                    continue
                shares = join(loops) / (record.width, record.height)
                numbers = " ".join(f"{value:.6g}" for value in np.clip(shares, 0, 1).ravel())
                lines.append(f"{classes[region.tag]} {numbers}\n")
            write_file(folder, f"images/{part}/{name}", image.data)
            label = f"labels/{part}/{name.rpartition('.')[0]}.txt"
            write_file(folder, label, "".join(lines).encode("ascii"))
        write_file(folder, "data.yaml", _yaml(chosen.parts, classes).encode("utf-8"))
    return counts


def _yaml(parts: tuple[str, ...], classes: dict[str, int]) -> str:
    """Strings as in JSON, which is YAML too."""
    lines = [f"{json.dumps(part)}: images/{part}" for part in parts]
    if "val" not in parts:
        lines.append(f"val: images/{parts[0]}  # the export was not split")
    lines.append("names:")
    lines += [f"  {number}: {json.dumps(name)}" for name, number in classes.items()]
    return "\n".join(lines) + "\n"
