"""How good records are against the scenes that they describe: tags, boxes and masks."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pad_pipeline import masks
from pad_pipeline.records import PadRecord
from pad_pipeline.scenes.generator import KINDS, Scene


@dataclass(frozen=True, slots=True)
class Truth:
    """What is in one scene: (N, 4) boxes xyxy in pixels and (N,) indices of `KINDS`."""

    height: int
    width: int
    boxes_xyxy: NDArray[np.floating]
    kinds: NDArray[np.integer]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """Every share is in 0–1. `ap50` and `ap` are COCO's, over the kinds that occur.

    `tag_f1` is the micro average over images and tags. `mask_iou` is the mean over the regions
    that COCO's evaluation matches to a thing of the same tag at a box IoU of at least .5;
    `matched` counts them, `things` all that there are.
    """

    num_scenes: int
    things: int
    regions: int
    matched: int
    tag_f1: float
    ap50: float
    ap: float
    mask_iou: float


def measure(records: Sequence[PadRecord], scenes: Sequence[Scene]) -> Quality:
    """Compare each record with its own scene; both in the same order.

    Raises `ValueError` where the numbers or an image's size differ.
    """
    if len(records) != len(scenes):
        raise ValueError(f"{len(records)} records for {len(scenes)} scenes")
    for record, scene in zip(records, scenes, strict=True):
        if record.status != "failed" and (record.height, record.width) != scene.image.shape[:2]:
            raise ValueError(
                f"{record.image_id} is {record.width}x{record.height}, but its scene is "
                f"{scene.image.shape[1]}x{scene.image.shape[0]}"
            )
    truths = [truth_of(scene) for scene in scenes]
    found = [_regions_of(record) for record in records]
    results = average_precision(truths, found)
    ious = []
    for record, scene, pairs in zip(records, scenes, results["pairs"], strict=True):
        known = [
            place for place, region in enumerate(record.labels) if region.tag in _NUMBER_OF_KIND
        ]
        for mine, thing in pairs:
            counts = record.labels[known[mine]].rle_mask
            ious.append(_mask_iou(counts, scene.things[thing].mask))
    return Quality(
        num_scenes=len(scenes),
        things=sum(len(scene.things) for scene in scenes),
        regions=sum(len(record.labels) for record in records),
        matched=len(ious),
        tag_f1=tag_f1(records, scenes),
        ap50=results["ap50"],
        ap=results["ap"],
        mask_iou=float(np.mean(ious)) if ious else 0.0,
    )


def tag_f1(records: Sequence[PadRecord], scenes: Sequence[Scene]) -> float:
    """Micro-averaged F1 of the tags over all scenes; 1 where there is nothing to find or say."""
    hits = tagged = true = 0
    for record, scene in zip(records, scenes, strict=True):
        tags = {tag.tag for tag in record.tags}
        hits += len(tags & set(scene.tags))
        tagged, true = tagged + len(tags), true + len(scene.tags)
    return 2 * hits / (tagged + true) if tagged + true else 1.0


def truth_of(scene: Scene) -> Truth:
    """The boxes and kinds of a scene."""
    boxes = np.array([thing.bbox_xyxy for thing in scene.things], float).reshape(-1, 4)
    kinds = np.array([_NUMBER_OF_KIND[thing.kind] for thing in scene.things], int)
    height, width = scene.image.shape[:2]
    return Truth(height, width, boxes, kinds)


def average_precision(
    truths: Sequence[Truth],
    found: Sequence[tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]],
) -> dict:
    """COCO's box evaluation by kind, of (boxes xyxy, scores, kinds) for every scene.

    Returns `ap50`, `ap` (IoU .5 to .95), and `pairs`: for every scene the (index of the found
    box, index of the thing) that were matched at IoU .5.
    """
    images, things, boxes = [], [], []
    for image, (truth, (xyxy, scores, kinds)) in enumerate(zip(truths, found, strict=True), 1):
        images.append({"id": image, "height": truth.height, "width": truth.width})
        for k, (box, kind) in enumerate(zip(truth.boxes_xyxy, truth.kinds, strict=True)):
            things.append(_annotation(image, len(things) + 1, box, kind) | {"place": k})
        for k, (box, kind) in enumerate(zip(xyxy, kinds, strict=True)):
            row = _annotation(image, len(boxes) + 1, box, kind)
            boxes.append(row | {"score": float(scores[k]), "place": k})
    evaluation = _evaluate(images, things, boxes)
    pairs: list[list[tuple[int, int]]] = [[] for _ in truths]
    for cell in evaluation.evalImgs:
        if cell is None or tuple(cell["aRng"]) != tuple(evaluation.params.areaRng[0]):
            continue
        for box_id, thing_id in zip(cell["dtIds"], cell["dtMatches"][0], strict=True):
            if thing_id:
                match = boxes[box_id - 1]["place"], things[int(thing_id) - 1]["place"]
                pairs[cell["image_id"] - 1].append(match)
    ap, ap50 = (float(value) for value in evaluation.stats[:2])
    return {"ap50": max(ap50, 0.0), "ap": max(ap, 0.0), "pairs": pairs}


def _evaluate(images: list[dict], things: list[dict], boxes: list[dict]) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth, guess = COCO(), COCO()
        for coco, annotations in ((truth, things), (guess, boxes)):
            dataset = {
                "images": images,
                "annotations": annotations,
                "categories": [{"id": k + 1, "name": kind} for k, kind in enumerate(KINDS)],
            }
            coco.dataset = cast(Any, dataset)
            coco.createIndex()
        evaluation = COCOeval(truth, guess, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _annotation(image: int, number: int, box: NDArray[np.floating], kind: int) -> dict:
    x0, y0, x1, y1 = (float(value) for value in box)
    return {
        "id": number,
        "image_id": image,
        "category_id": int(kind) + 1,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "area": (x1 - x0) * (y1 - y0),
        "iscrowd": 0,
    }


def _regions_of(
    record: PadRecord,
) -> tuple[NDArray[np.floating], NDArray[np.floating], NDArray[np.integer]]:
    known = [region for region in record.labels if region.tag in _NUMBER_OF_KIND]
    return (
        np.array([region.bbox for region in known], float).reshape(-1, 4),
        np.array([region.score for region in known], float),
        np.array([_NUMBER_OF_KIND[region.tag] for region in known], int),
    )


def _mask_iou(counts: str, truth: NDArray[np.bool_]) -> float:
    height, width = truth.shape
    found, true = (
        cast(Any, {"size": [height, width], "counts": text.encode("ascii")})
        for text in (counts, masks.encode(truth))
    )
    return float(np.asarray(coco_mask.iou([found], [true], [0]))[0, 0])


_NUMBER_OF_KIND = {kind: number for number, kind in enumerate(KINDS)}
