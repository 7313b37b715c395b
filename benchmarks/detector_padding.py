"""What `--detect.pad-to canvases` changes in what the embedded detector finds.

`python benchmarks/detector_padding.py [--scenes 200]`: unseen scenes, cut to sizes that vary as
those of photos do, are detected with their true tags at their own size and on canvases. Boxes are
compared with one another and with the truth, after suppression.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import common
import numpy as np
from numpy.typing import NDArray

from pad_pipeline.boxes import iou_matrix, nms
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Boxes
from pad_pipeline.models.registry import load_detector
from pad_pipeline.scenes.generator import KINDS, Scene, generate_scene
from pad_pipeline.scenes.quality import Truth, average_precision
from pad_pipeline.scenes.writer import HELD_OUT_SEED

IOU = 0.5


def main() -> None:
    """Detect in both ways, compare, write and print."""
    parser = common.make_parser(__doc__, "detector_padding")
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--batch", type=int, default=8)
    arguments = parser.parse_args()
    machine = common.describe_machine()
    scenes = [cut(generate_scene(HELD_OUT_SEED + i), i) for i in range(arguments.scenes)]
    detectors = {
        way: load_detector("embedded", Runtime(), pad_to=way, max_pairs=arguments.batch)
        for way in ("own", "canvases")
    }
    images = [image for image, _ in scenes]
    tags = [sorted({KINDS[kind] for kind in truth.kinds}) for _, truth in scenes]
    found = {
        way: [suppressed(boxes) for boxes in detector.detect(images, tags)]
        for way, detector in detectors.items()
    }
    sizes = {
        way: len({detector.input_size(*image.shape[:2]) for image in images})
        for way, detector in detectors.items()
    }
    padded = [
        index
        for index, image in enumerate(images)
        if len({detector.input_size(*image.shape[:2]) for detector in detectors.values()}) > 1
    ]
    result = {
        "what": "embedded detector, true tags, scenes cut to varying sizes",
        "scenes": len(scenes),
        "padded_scenes": len(padded),
        "input_sizes": sizes,
        "ap50": {way: round(ap50(scenes, boxes), 4) for way, boxes in found.items()},
        "of_padded_scenes": {
            "ap50": {
                way: round(ap50([scenes[i] for i in padded], [boxes[i] for i in padded]), 4)
                for way, boxes in found.items()
            },
            **agreement([(found["own"][i], found["canvases"][i]) for i in padded]),
        },
    }
    common.write_result(arguments.output, machine, result)


def cut(scene: Scene, seed: int) -> tuple[NDArray[np.uint8], Truth]:
    """The upper left of a scene, at least three quarters of each side, and what is in it.

    A thing counts while at least half of it is there.
    """
    rng = np.random.default_rng(seed)
    height, width = (int(side * rng.uniform(0.75, 1)) for side in scene.image.shape[:2])
    whole = np.array([thing.bbox_xyxy for thing in scene.things], float).reshape(-1, 4)
    boxes = whole.clip(0, [width, height, width, height])
    kept = area(boxes) >= area(whole) / 2
    kinds = np.array([KINDS.index(thing.kind) for thing in scene.things], int)
    image = np.ascontiguousarray(scene.image[:height, :width])
    return image, Truth(height, width, boxes[kept], kinds[kept])


def area(boxes: NDArray[np.floating]) -> NDArray[np.floating]:
    """Of boxes (N, 4) xyxy."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def suppressed(boxes: Boxes) -> Boxes:
    """The boxes that stay, best first."""
    kept = nms(boxes.xyxy, boxes.scores, IOU)
    return Boxes(boxes.xyxy[kept], boxes.scores[kept], tuple(boxes.labels[i] for i in kept))


def ap50(scenes: Sequence[tuple[Any, Truth]], found: Sequence[Boxes]) -> float:
    """COCO's average precision at an IoU of 0.5."""
    boxes = [
        (found.xyxy, found.scores, np.array([KINDS.index(label) for label in found.labels], int))
        for found in found
    ]
    return average_precision([truth for _, truth in scenes], boxes)["ap50"]


def agreement(pairs: Sequence[tuple[Boxes, Boxes]]) -> dict[str, Any]:
    """How alike boxes of the same images are: each of either side beside its best of the other."""
    alone, ious, scores = 0, [], []
    for own, padded in pairs:
        same = np.array([[a == b for b in padded.labels] for a in own.labels], bool)
        overlaps = iou_matrix(own.xyxy, padded.xyxy) * same.reshape(len(own.labels), -1)
        matched = 0
        for index in range(len(own.labels)):
            if not padded.labels or overlaps[index].max() < IOU:
                continue
            other = int(overlaps[index].argmax())
            matched += 1
            ious.append(overlaps[index, other])
            scores.append(abs(own.scores[index] - padded.scores[other]))
        alone += len(own.labels) + len(padded.labels) - 2 * matched
    total = sum(len(own.labels) + len(padded.labels) for own, padded in pairs)
    return {
        "boxes_without_counterpart": round(alone / total, 4),
        "iou_of_counterparts": {"mean": round(float(np.mean(ious)), 4),
                                "5_percent": round(float(np.quantile(ious, 0.05)), 4)},
        "score_difference": {"mean": round(float(np.mean(scores)), 4),
                             "95_percent": round(float(np.quantile(scores, 0.95)), 4)},
    }  # fmt: skip


if __name__ == "__main__":
    main()
