"""The comparisons of `verify` for what lies between the models, and for a whole chain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from pad_pipeline import masks
from pad_pipeline.boxes import nms
from pad_pipeline.geometry import longest_side
from pad_pipeline.models.base import Runtime
from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pad_pipeline.verify.end_to_end import check_whole_chain
from pad_pipeline.verify.rows import (
    Check,
    VerifyRow,
    compare,
    compare_decisions,
    not_compared,
    read_json,
    unpack,
)


def check_steps(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Suppression and run lengths: every recorded case must come out the same."""
    del tolerance, runtime
    arrays = load_arrays(directory / "nms_rle.safetensors")
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


def check_preprocessing(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Sizes after resizing, resized photos within one grey level, and normalised tensors.

    The photo that all are made from lies in the folder `sam_tiny` beside this one.
    """
    from pad_pipeline.models.resize import resize_uint8

    rows = _check_sizes(read_json(directory / "resize_sizes.json"))
    photo = _read(directory.parent / "sam_tiny" / "landscape.png")
    sizes_and_filters = _how_resized(directory, photo)
    for path in sorted(directory.glob("*.png")):
        if path.stem not in sizes_and_filters:
            rows.append(not_compared(path.name, "not a resizing that is done here"))
            continue
        height, width, resampling = sizes_and_filters[path.stem]
        found = resize_uint8(photo, height, width, resampling, runtime.device).permute(1, 2, 0)
        wanted = torch.from_numpy(_read(path).copy())
        rows.append(compare(path.name, found.float(), wanted.float(), 1.0, "grey levels"))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    for name, wanted in load_file(directory / "tensors.safetensors").items():
        if name not in sizes_and_filters:
            rows.append(not_compared(name, "not a resizing that is done here"))
            continue
        height, width, resampling = sizes_and_filters[name]
        resized = resize_uint8(photo, height, width, resampling, runtime.device).cpu()
        found = (resized / 255 - mean) / std
        # one grey level of a normalised pixel, should another Pillow round otherwise
        level = float(1 / 255 / std.min()) + tolerance
        rows.append(compare(name, found, wanted, level, "normalised pixels, one grey level"))
    return rows


def _how_resized(directory: Path, photo: NDArray[np.uint8]) -> dict[str, tuple[int, int, Any]]:
    """Height, width and filter behind each file or tensor whose name says what it is."""
    from pad_pipeline.models.grounding_dino.detector import resized_size

    names = {path.stem for path in directory.glob("*.png")}
    names |= set(load_file(directory / "tensors.safetensors"))
    ways: dict[str, tuple[int, int, Any]] = {}
    for name in names:
        if found := re.fullmatch(r"gdino_(\d+)_(\d+)", name):
            size = resized_size(photo.shape[0], photo.shape[1], int(found[1]), int(found[2]))
            ways[name] = (*size, "bilinear")
        elif found := re.fullmatch(r"ram_(\d+)_(pipeline|get_transform)", name):
            side = int(found[1])
            ways[name] = (side, side, "bicubic" if found[2] == "pipeline" else "bilinear")
    return ways


def _check_sizes(cases: list[Mapping[str, Any]]) -> list[VerifyRow]:
    """Sizes of images after each resizing; where the original fails there is nothing to compare."""
    from pad_pipeline.models.grounding_dino.detector import resized_size

    rows = []
    for name in [name for name in cases[0] if name != "original_wh"]:
        found, wanted = [], []
        for case in cases:
            width, height = case["original_wh"]
            if case[name] is None:
                continue
            if match := re.fullmatch(r"gdino_(\d+)_(\d+)_wh", name):
                size = resized_size(height, width, int(match[1]), int(match[2]))
                found.append([size[1], size[0]])
                wanted.append(case[name])
            elif match := re.fullmatch(r"sam_(\d+)_hw", name):
                found.append(list(longest_side(width, height, int(match[1])).content[::-1]))
                # a side of 0, on which the original fails a step later, is 1 here
                wanted.append([max(1, side) for side in case[name]])
        rows.append(
            compare_decisions(f"size {name}", found, wanted)
            if wanted
            else not_compared(f"size {name}", "no such resizing here")
        )
    return rows


def _read(path: Path) -> NDArray[np.uint8]:
    with PillowImage.open(path) as image:
        return np.asarray(image.convert("RGB"))


CHECKS: Mapping[str, Check] = {
    "nms_cases.json": check_steps,
    "resize_sizes.json": check_preprocessing,
    "expected.json": check_whole_chain,
}
"""By a file that only such a folder holds; the last where there is no config.json."""
