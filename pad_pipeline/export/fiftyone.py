"""The export to FiftyOne: a folder in its own JSON format, `fiftyone.types.FiftyOneDataset`."""

from __future__ import annotations

import base64
import io
import math
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pad_pipeline import storage
from pad_pipeline.export.chosen import Chosen, captions_of, clipped
from pad_pipeline.export.coco import OUTSIDE
from pad_pipeline.export.image_files import EntryImage, FileNames, iter_images, write_file
from pad_pipeline.export.json_writing import write_array
from pad_pipeline.records import PadRecord, Region
from pad_pipeline.region_masks import region_mask
from pad_pipeline.storage.atomic import new_file, new_folder


def write_fiftyone(chosen: Chosen, dest: str) -> Counter[str]:
    """`metadata.json`, `samples.json` and the images in `data/`; a split becomes tags of samples.

    The metadata name no version, by which FiftyOne knows samples in the form of `Sample.to_dict`:
    it finds out their fields by itself. Regions are `Detections` with masks, the tags of an image
    `Classifications`.
    """
    counts: Counter[str] = Counter()
    names = FileNames()

    def samples(folder: str) -> Iterator[dict[str, Any]]:
        for image in iter_images(chosen, counts):
            place = f"data/{names(image.entry.record, image.data)}"
            write_file(folder, place, image.data)
            yield _sample(chosen, image, place, counts)

    models = chosen.dataset.manifest.get("models")
    with new_folder(dest) as folder:
        storage.write_json(
            storage.join(folder, "metadata.json"),
            {"media_type": "image", "info": {"models": models if isinstance(models, dict) else {}}},
        )
        with new_file(storage.join(folder, "samples.json")) as file:
            file.write(b'{"samples": ')
            write_array(file, samples(folder))
            file.write(b"}\n")
    return counts


def _sample(chosen: Chosen, image: EntryImage, place: str, counts: Counter[str]) -> dict[str, Any]:
    record = image.entry.record
    detections = []
    for region in record.labels:
        found = _detection(record, region)
        if found is None:
            counts[OUTSIDE] += 1
            counts["regions"] -= 1
        else:
            detections.append(found)
    return {
        "filepath": place,
        "tags": [image.entry.part] if chosen.options.shares else [],
        "metadata": {
            "_cls": "ImageMetadata",
            "size_bytes": len(image.data),
            "width": record.width,
            "height": record.height,
        },
        "image_id": record.image_id,
        **captions_of(record),
        "image_tags": {
            "_cls": "Classifications",
            "classifications": [
                {"_cls": "Classification", "label": tag.tag, "confidence": tag.score, "tags": []}
                for tag in record.tags
            ],
        },
        "regions": {"_cls": "Detections", "detections": detections},
    }


def _detection(record: PadRecord, region: Region) -> dict[str, Any] | None:
    """A region whose box holds the detector's box, cut to the image, and all of the mask.

    FiftyOne stretches a mask over its box, so the box has whole pixels. None where nothing lies in
    the image.
    """
    mask = region_mask(record, region)
    box = clipped(region.bbox, record.width, record.height, True)
    edges = [box] if box is not None and all(map(math.isfinite, box)) else []
    if mask.any():
        ys, xs = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
        edges.append((float(xs[0]), float(ys[0]), float(xs[-1] + 1), float(ys[-1] + 1)))
    if not edges:
        return None
    x0, y0 = (math.floor(min(edge[at] for edge in edges)) for at in (0, 1))
    x1, y1 = (math.ceil(max(edge[at] for edge in edges)) for at in (2, 3))
    width, height = record.width, record.height
    return {
        "_cls": "Detection",
        "label": region.tag,
        "bounding_box": [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
        "mask": _array(mask[y0:y1, x0:x1]),
        "confidence": region.score,
        "predicted_iou": region.predicted_iou,
        "detector_box": list(region.bbox),
        "tags": [],
    }


def _array(values: NDArray[Any]) -> dict[str, Any]:
    """An array as FiftyOne keeps it: NumPy's file format, deflated, as MongoDB's binary in JSON."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    text = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return {"$binary": {"base64": text, "subType": "00"}}
