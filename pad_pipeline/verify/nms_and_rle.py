"""Box suppression and mask encoding against recorded cases of torchvision and pycocotools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from pad_pipeline import masks
from pad_pipeline.boxes import nms
from pad_pipeline.models.base import Runtime
from pad_pipeline.verify.rows import VerifyRow, compare_decisions, read_json, unpack


def check_nms_and_rle(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Kept boxes, run lengths, areas and boxes of masks: every recorded case must be equal."""
    del tolerance, runtime
    arrays = load_file(directory / "nms_rle.safetensors")
    cases = read_json(directory / "nms_cases.json")
    kept = [
        nms(
            arrays[f"nms{index}.boxes"], arrays[f"nms{index}.scores"], case["iou_threshold"]
        ).tolist()
        for index, case in enumerate(cases)
    ]
    wanted = [arrays[f"nms{index}.keep"].tolist() for index in range(len(cases))]
    rows = [compare_decisions("nms: kept boxes of each case", kept, wanted)]

    runs: list[Mapping[str, Any]] = read_json(directory / "rle_cases.json")
    drawn = [
        unpack(arrays[f"rle{index}.bits"], *case["size_hw"]) for index, case in enumerate(runs)
    ]
    decoded = [masks.decode(case["counts"], *case["size_hw"]) for case in runs]
    boxes = [masks.bounding_box(case["counts"], *case["size_hw"]) for case in runs]
    for name, found, expected in (
        ("rle: counts of each mask", map(masks.encode, drawn), [case["counts"] for case in runs]),
        (
            "rle: pixels of each mask",
            [np.packbits(pixels).tobytes() for pixels in decoded],
            [np.packbits(pixels).tobytes() for pixels in drawn],
        ),
        (
            "rle: area of each mask",
            [masks.area(case["counts"], *case["size_hw"]) for case in runs],
            [case["area"] for case in runs],
        ),
        (
            "rle: box of each mask",
            [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in boxes],
            [case["bbox_xywh"] for case in runs],
        ),
    ):
        rows.append(compare_decisions(name, found, expected))
    return rows
