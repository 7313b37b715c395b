"""The models' resizing and normalising of images against recorded sizes, photos and tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from pad_pipeline.geometry import longest_side
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import resized_size
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.normalisation import IMAGENET_MEAN, IMAGENET_STD
from pad_pipeline.verify.rows import (
    VerifyRow,
    compare,
    compare_decisions,
    not_compared,
    read_image,
    read_json,
)


def check_preprocessing(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """Sizes after resizing, resized photos within one grey level, and normalised tensors.

    The photo that all are made from lies in the folder `sam_tiny` beside this one.
    """
    rows = _check_sizes(read_json(directory / "resize_sizes.json"))
    photo = read_image(directory.parent / "sam_tiny" / "landscape.png")
    sizes_and_filters = _resizes(directory, photo)
    for path in sorted(directory.glob("*.png")):
        if path.stem not in sizes_and_filters:
            rows.append(not_compared(path.name, "no resizing of ours has this name"))
            continue
        height, width, resampling = sizes_and_filters[path.stem]
        found = resize_uint8(photo, height, width, resampling, runtime.device).permute(1, 2, 0)
        wanted = torch.from_numpy(read_image(path).copy())
        rows.append(compare(path.name, found.float(), wanted.float(), 1.0, "grey levels"))
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    for name, wanted in load_file(directory / "tensors.safetensors").items():
        if name not in sizes_and_filters:
            rows.append(not_compared(name, "no resizing of ours has this name"))
            continue
        height, width, resampling = sizes_and_filters[name]
        resized = resize_uint8(photo, height, width, resampling, runtime.device).cpu()
        found = (resized / 255 - mean) / std
        # one grey level of a normalised pixel, should another Pillow round otherwise
        level = float(1 / 255 / std.min()) + tolerance
        rows.append(compare(name, found, wanted, level, "normalised pixels, one grey level"))
    return rows


def _resizes(directory: Path, photo: NDArray[np.uint8]) -> dict[str, tuple[int, int, Any]]:
    """Height, width and filter behind each file or tensor whose name says what it is."""
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
            else not_compared(f"size {name}", "no resizing of ours has this name")
        )
    return rows
