"""What lower precision does to masks: IoU with float32's, on scenes that the embedded SAM knows."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from gpu_sections.bench import Bench, Row, Rows, rounded
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Mask
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.scenes.generator import Scene, generate_scene
from pad_pipeline.scenes.writer import HELD_OUT_SEED

SCENES, TINY_SCENES = 64, 2

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "bfloat16": ("bfloat16", {}),
    "float16": ("float16", {}),
    "bfloat16, fp8 projections": ("bfloat16", {"quantize": "fp8"}),
}


def rows(bench: Bench) -> Rows:
    """Each way beside float32 on the same device."""
    for name, (dtype, options) in WAYS.items():
        yield name, partial(compare, bench, dtype, options)


def compare(bench: Bench, dtype: str, options: dict[str, Any]) -> Row:
    """Mean, 5 % quantile and least IoU over all boxes that the scenes truly have."""
    scenes = [
        generate_scene(HELD_OUT_SEED + seed)
        for seed in range(TINY_SCENES if bench.tiny else SCENES)
    ]
    exact = cut_out(Runtime(bench.device), scenes)
    if options:
        options = options | {"emulate": not bench.on_gpu}
    found = cut_out(Runtime(bench.device, dtype), scenes, **options)
    overlaps = np.array([overlap(a, b) for a, b in zip(exact, found, strict=True)])
    predicted = [abs(a.predicted_iou - b.predicted_iou) for a, b in zip(exact, found, strict=True)]
    return {
        "masks": len(overlaps),
        "mean_iou": round(float(overlaps.mean()), 5),
        "iou_5_percent": round(float(np.quantile(overlaps, 0.05)), 5),
        "least_iou": round(float(overlaps.min()), 5),
        "median_change_of_predicted_iou": rounded(float(np.median(predicted))),
    }


def cut_out(runtime: Runtime, scenes: list[Scene], **options: Any) -> list[Mask]:
    """The masks of all boxes of all scenes."""
    segmenter = load_segmenter("embedded", runtime, **options)
    boxes = [np.array([thing.bbox_xyxy for thing in s.things], np.float32) for s in scenes]
    of_scenes = segmenter.segment([scene.image for scene in scenes], boxes)
    return [mask for of_scene in of_scenes for mask in of_scene]


def overlap(first: Mask, second: Mask) -> float:
    """IoU; two empty masks are the same."""
    runs = [
        {"size": [mask.height, mask.width], "counts": mask.counts.encode()}
        for mask in (first, second)
    ]
    if not first.area and not second.area:
        return 1.0
    return float(coco_mask.iou(runs[:1], runs[1:], [0])[0, 0])
