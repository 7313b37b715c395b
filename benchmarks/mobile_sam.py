"""MobileSAM with real weights on labelled photographs: masks of the true boxes, seconds an image.

The photographs are a folder in YOLO's layout (`images/…/NAME.jpg`, `labels/…/NAME.txt`, polygons as
in Ultralytics' coco128-seg). A region's box is that of its polygon, its mask is compared with it.
Seconds are from decoded image to run-length strings: of the processor, with one thread, over all
images, which other programs hardly change; and on the clock, with two threads, the fastest of
several runs over a few images. The two memory layouts of the encoder take turns on one image.
With `--annotate`, the photographs also go through `annotate` with their true boxes, and the data
set's masks are compared with the polygons as `evaluate detections` does.
"""

from __future__ import annotations

import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import describe_machine, make_parser, say, write_result
from PIL import Image
from pycocotools import mask as coco_mask

from pad_pipeline.annotate.run import annotate
from pad_pipeline.evaluate.detections import evaluate_detections
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.photos.demo import config_for

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, float("inf"))}
"""COCO's classes of areas in pixels."""


def read_regions(path: Path, width: int, height: int) -> list[np.ndarray]:
    """The polygons of a label file, (N, 2) in pixels each; of fewer than 3 points they are none."""
    rows = [np.array(line.split()[1:], np.float64) for line in path.read_text().splitlines()]
    return [row.reshape(-1, 2) * (width, height) for row in rows if len(row) >= 6]


def label_of(path: Path) -> Path:
    return Path(str(path.with_suffix(".txt")).replace("/images/", "/labels/"))


def labelled(photos: Path, every: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
    """RGB images that have regions, and their polygons."""
    for path in sorted(photos.glob("images/**/*.jpg"))[::every]:
        label = label_of(path)
        if not label.is_file():
            continue
        with Image.open(path) as picture:
            image = np.asarray(picture.convert("RGB"))
        regions = read_regions(label, image.shape[1], image.shape[0])
        if regions:
            yield image, regions


def compare(segmenter: Any, photos: Path, every: int) -> tuple[np.ndarray, list[float]]:
    """A row per region (IoU, true area, predicted IoU), and each image's processor seconds."""
    rows, seconds = [], []
    for image, polygons in labelled(photos, every):
        height, width = image.shape[:2]
        start = time.process_time()
        (masks,) = segmenter.segment([image], [boxes_of(polygons)])
        seconds.append(time.process_time() - start)
        for points, mask in zip(polygons, masks, strict=True):
            runs = coco_mask.merge(coco_mask.frPyObjects([points.ravel().tolist()], height, width))
            found = {"size": [height, width], "counts": mask.counts}
            iou = float(np.asarray(coco_mask.iou([found], [runs], [0]))[0, 0])
            rows.append((iou, float(coco_mask.area(runs)), mask.predicted_iou))
    return np.array(rows), seconds


def boxes_of(polygons: list[np.ndarray]) -> np.ndarray:
    return np.array([[*points.min(0), *points.max(0)] for points in polygons], np.float32)


def time_two_threads(segmenter: Any, photos: Path, repeats: int) -> list[float]:
    """Seconds of the first images, the fastest of `repeats` runs of each."""
    fastest = []
    for image, polygons in itertools.islice(labelled(photos, 1), 4):
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            segmenter.segment([image], [boxes_of(polygons)])
            seconds.append(time.perf_counter() - start)
        fastest.append(round(min(seconds), 3))
    return fastest


@torch.inference_mode()
def layouts(segmenter: SamSegmenter, repeats: int) -> dict[str, float]:
    """Seconds of the encoder for one image in both memory layouts, by turns."""
    encoder = segmenter.model.vision_encoder
    pixels = torch.zeros(1, 3, segmenter.size, segmenter.size)
    seconds: dict[str, list[float]] = {"contiguous": [], "channels_last": []}
    for _ in range(repeats):
        for name in seconds:
            encoder.to(memory_format=getattr(torch, f"{name}_format", torch.channels_last))
            start = time.perf_counter()
            encoder(pixels)
            seconds[name].append(time.perf_counter() - start)
    return {name: round(min(values), 3) for name, values in seconds.items()}


def annotated_ap(photos: Path, every: int, model: str, folder: Path) -> dict[str, Any]:
    """Images, and AP of the masks in a data set that `annotate` makes of the true boxes."""
    truth: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for path in sorted(photos.glob("images/**/*.jpg"))[::every]:
        if not label_of(path).is_file():
            continue
        shutil.copy(path, folder / "images")
        shutil.copy(label_of(path), folder / "labels")
        with Image.open(path) as picture:
            width, height = picture.size
        number = len(truth["images"]) + 1
        truth["images"].append(
            {"id": number, "file_name": path.name, "width": width, "height": height}
        )
        for line in label_of(path).read_text().splitlines():
            kind, *values = line.split()
            points = np.array(values, np.float64).reshape(-1, 2) * (width, height)
            x, y, w, h = *points.min(0), *np.ptp(points, 0)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(kind) + 1,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    "segmentation": [points.ravel().tolist()],
                }
            )
    kinds = sorted({annotation["category_id"] for annotation in truth["annotations"]})
    truth["categories"] = [{"id": kind, "name": str(kind - 1)} for kind in kinds]
    (folder / "truth.json").write_text(json.dumps(truth))
    annotations = str(folder / "annotations")
    config = config_for(folder / "labels", model)
    annotate(str(folder / "images"), annotations, config)
    report = evaluate_detections(annotations, str(folder / "truth.json"), str(folder / "ap"))
    return {"photographs": len(truth["images"]), **report.summary}


def main() -> None:
    parser = make_parser(__doc__, "mobile_sam")
    parser.add_argument("photos", type=Path)
    parser.add_argument("--model", default="mobile_sam")
    parser.add_argument("--every", type=int, default=1, help="take every n-th photograph")
    parser.add_argument("--annotate", type=Path, help="a new folder for the run of `annotate`")
    parser.add_argument("--repeats", type=int, default=5, help="of what the clock measures, or 0")
    options = parser.parse_args()
    machine = describe_machine()
    torch.set_num_threads(1)
    segmenter = load_segmenter(options.model, Runtime())
    rows, seconds = compare(segmenter, options.photos, options.every)
    torch.set_num_threads(2)
    iou, area, predicted = rows.T
    sure = predicted >= 0.8
    result = {
        "photographs": len(seconds),
        "regions": len(rows),
        "mean_iou": round(iou.mean(), 4),
        "median_iou": round(float(np.median(iou)), 4),
        "mean_iou_by_size": {
            name: [int(of_size.sum()), round(iou[of_size].mean(), 4) if of_size.any() else None]
            for name, (low, high) in SIZES.items()
            for of_size in [(area >= low) & (area < high)]
        },
        "mean_iou_where_predicted_at_least_0.8": round(iou[sure].mean(), 4),
        "share_predicted_at_least_0.8": round(float(sure.mean()), 4),
        "correlation_of_predicted_and_true_iou": round(float(np.corrcoef(iou, predicted)[0, 1]), 3),
        "processor_seconds_per_image": {
            "median": round(float(np.median(seconds)), 3),
            "fastest": round(min(seconds), 3),
            "slowest": round(max(seconds), 3),
        },
    }
    if options.repeats:
        result |= {
            "seconds_on_two_threads": time_two_threads(segmenter, options.photos, options.repeats),
            "encoder_seconds_by_memory_layout": layouts(segmenter, options.repeats),
        }
    if options.annotate:
        found = annotated_ap(options.photos, options.every, options.model, options.annotate)
        result["annotate"] = {name: value for name, value in found.items() if name != "per_tag"}
    write_result(options.output, machine, result)
    if result["mean_iou"] < 0.69:
        say("below the goal of 0.69")


if __name__ == "__main__":
    main()
