"""Images with their objects and regions as pycocotools takes them."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast, get_args

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pad_pipeline import masks
from pad_pipeline.errors import UserError
from pad_pipeline.ground_truth.coco import TrueImage, object_mask
from pad_pipeline.ground_truth.curves import ALL_AREAS
from pad_pipeline.records import PadRecord

Kind = Literal["boxes", "masks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
IOU_TYPES: dict[Kind, Literal["bbox", "segm"]] = {"boxes": "bbox", "masks": "segm"}
"""pycocotools' words for them."""

Entry = dict[str, Any]
"""An annotation or result of COCO; "number" is its place in its image."""


@dataclass(frozen=True, slots=True)
class Pair:
    """An image as the truth and as the data set has it; `place` is that in `GroundTruth.images`."""

    place: int
    image: TrueImage
    record: PadRecord


def entries_of(
    pair: Pair, kind: Kind, category_of: Mapping[str, int]
) -> tuple[list[Entry], list[Entry]]:
    """The objects and the regions of an image, without the regions whose tag names no category.

    Raises `UserError` where the image has another size in the truth, or a mask does not fit it.
    """
    _check_size(pair)
    size = [max(pair.record.height, 1), max(pair.record.width, 1)]
    objects, regions = [], []
    for number, found in enumerate(pair.image.objects):
        entry: Entry = {
            "image_id": pair.place,
            "number": number,
            "category_id": found.category,
            "bbox": list(found.bbox_xywh),
            "area": found.area,
            "iscrowd": int(found.is_crowd),
        }
        if kind == "masks":
            entry["segmentation"] = {"size": size, "counts": _object_mask(pair, number)}
        objects.append(entry)
    for number, region in enumerate(pair.record.labels):
        if region.tag not in category_of:
            continue
        x0, y0, x1, y1 = region.bbox
        entry = {
            "image_id": pair.place,
            "number": number,
            "category_id": category_of[region.tag],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": region.area,
            "score": region.score,
            "iscrowd": 0,
        }
        if kind == "masks":
            entry["segmentation"] = {"size": size, "counts": _region_mask(pair.record, number)}
        regions.append(entry)
    return objects, regions


def evaluate(kind: Kind, objects: Sequence[Entry], regions: Sequence[Entry]) -> list[Entry]:
    """COCOeval's results of some images, one for every image and category that has anything.

    Gives the entries their ids, from 1 on: COCOeval takes the id 0 for no match.
    """
    for number, entry in enumerate((*objects, *regions), 1):
        entry["id"] = number
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(_coco(objects), _coco(regions), IOU_TYPES[kind])
        images, categories = (
            {entry[name] for entry in (*objects, *regions)} for name in ("image_id", "category_id")
        )
        evaluation.params.imgIds, evaluation.params.catIds = sorted(images), sorted(categories)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [ALL_AREAS], ["all"]
        evaluation.evaluate()
    return [each for each in cast(Any, evaluation.evalImgs) if each is not None]


def _coco(entries: Sequence[Entry]) -> COCO:
    content = COCO()
    # COCOeval wants sizes, which it does not use: the masks are run lengths already.
    images = [{"id": each, "height": 0, "width": 0} for each in {e["image_id"] for e in entries}]
    whole = {"images": images, "annotations": list(entries), "categories": []}
    content.dataset = cast(Any, whole)
    content.createIndex()
    return content


def _check_size(pair: Pair) -> None:
    size = (pair.record.width, pair.record.height)
    if pair.image.size is None or pair.image.size == size or pair.record.status == "failed":
        return
    stated, found = (f"{width}x{height}" for width, height in (pair.image.size, size))
    raise UserError(
        f"{pair.image.file_name} has {stated} pixels in the ground truth and {found} in the data "
        "set: annotate the images that the truth is of"
    )


def _object_mask(pair: Pair, number: int) -> str:
    width, height = pair.record.width, pair.record.height
    if pair.record.status == "failed":  # there is nothing to compare it with, nor perhaps a size
        return masks.encode(np.zeros((1, 1), bool))
    try:
        return object_mask(pair.image.objects[number], width, height)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"a mask of {pair.image.file_name} in the ground truth cannot be used: {error}"
        ) from error


def _region_mask(record: PadRecord, number: int) -> str:
    counts = record.labels[number].rle_mask
    try:
        masks.area(counts, record.height, record.width)  # pycocotools would write past the end
    except ValueError as error:
        raise UserError(
            f"a mask of {record.image_id} cannot be compared: {error}; "
            "`pad-pipeline validate` lists such records"
        ) from error
    return counts
