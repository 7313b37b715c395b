"""A row for each compared output, and how outputs are compared."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as PillowImage
from torch import Tensor

from pad_pipeline.models.base import Runtime

MASK_SHARE = 0.001
"""The share of a mask's pixels that may differ: some logits lie next to the threshold."""


@dataclass(frozen=True, slots=True)
class VerifyRow:
    """One comparison. The first two numbers are None where nothing was compared; `note` says why.

    `max_abs_difference` and `allowed` are absolute differences, or shares or counts where the note
    says so.
    """

    name: str
    max_abs_difference: float | None
    allowed: float | None
    ok: bool
    note: str = ""


Check = Callable[[Path, float, Runtime], list[VerifyRow]]
"""Compares one folder, within a tolerance, with what our code makes of it on a runtime."""


def compare_all(
    found: Mapping[str, Any],
    expected: Mapping[str, Tensor],
    tolerance: float,
    *,
    special: Mapping[str, Callable[[str, Any, Tensor], VerifyRow]] | None = None,
    reasons: Mapping[str, str] | None = None,
) -> list[VerifyRow]:
    """A row for every expected tensor, in their order.

    `special` compares names that end so in another way; `reasons` say of names that begin so why
    they are not compared.
    """
    rows = []
    for name, wanted in expected.items():
        skipped = [why for start, why in (reasons or {}).items() if name.startswith(start)]
        if skipped:
            rows.append(not_compared(name, skipped[0]))
        elif name not in found:
            rows.append(not_compared(name, "no output of ours has this name"))
        else:
            ways = [way for end, way in (special or {}).items() if name.endswith(end)]
            row = ways[0](name, found[name], wanted) if ways else None
            rows.append(row or compare(name, found[name], wanted, tolerance))
    return rows


def compare(name: str, found: Any, wanted: Any, allowed: float, note: str = "") -> VerifyRow:
    """Floats within `allowed`, infinite ones in the same places; whole numbers and bools equal."""
    ours, theirs = torch.as_tensor(found).cpu(), torch.as_tensor(wanted).cpu()
    if ours.shape != theirs.shape:
        shapes = f"shape {tuple(ours.shape)}, expected {tuple(theirs.shape)}"
        return VerifyRow(name, math.inf, allowed, False, shapes)
    if not theirs.is_floating_point():
        allowed = 0.0
    ours, theirs = ours.double(), theirs.double()
    same = (ours == theirs) | (ours.isnan() & theirs.isnan())
    apart = torch.where(same, 0.0, (ours - theirs).abs())
    apart = torch.where(apart.isnan(), math.inf, apart)
    difference = float(apart.max()) if apart.numel() else 0.0
    return VerifyRow(name, difference, allowed, difference <= allowed, note)


def compare_decisions(name: str, found: Iterable[Any], wanted: Iterable[Any]) -> VerifyRow:
    """How many of a sequence of decisions differ; none may. The note shows the first that does."""
    ours, theirs = list(found), list(wanted)
    if len(ours) != len(theirs):
        note = f"found {len(ours)}, expected {len(theirs)}"
        return VerifyRow(name, float(abs(len(ours) - len(theirs))), 0.0, False, note)
    wrong = [index for index in range(len(theirs)) if ours[index] != theirs[index]]
    note = f"{len(theirs)} decisions"
    if wrong:
        first = wrong[0]
        note = f"no. {first}: found {_short(ours[first])}, expected {_short(theirs[first])}"
    return VerifyRow(name, float(len(wrong)), 0.0, not wrong, note)


def compare_packed_masks(
    name: str, found: Any, wanted: Any, sizes_hw: Sequence[tuple[int, int]]
) -> VerifyRow:
    """Masks as `numpy.packbits` rows of row-major pixels: the largest share that differs in one."""
    ours, theirs = np.asarray(found), np.asarray(wanted)
    if ours.shape != theirs.shape:
        return VerifyRow(
            name, math.inf, MASK_SHARE, False, f"shape {ours.shape}, expected {theirs.shape}"
        )
    shares = [
        float(np.mean(unpack(a, height, width) != unpack(b, height, width)))
        for a, b, (height, width) in zip(ours, theirs, sizes_hw, strict=True)
    ]
    note = f"share of pixels, worst of {len(shares)} masks"
    largest = max(shares, default=0.0)
    return VerifyRow(name, largest, MASK_SHARE, largest <= MASK_SHARE, note)


def unpack(bits: NDArray[np.uint8], height: int, width: int) -> NDArray[np.bool_]:
    """A packed mask as (height, width) bool."""
    return np.unpackbits(bits)[: height * width].reshape(height, width).astype(bool)


def not_compared(name: str, reason: str) -> VerifyRow:
    """A row that says why there is no comparison."""
    return VerifyRow(name, None, None, True, f"not compared: {reason}")


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_image(path: Path) -> NDArray[np.uint8]:
    """The pixels of an image file, HWC uint8 RGB."""
    with PillowImage.open(path) as image:
        return np.asarray(image.convert("RGB"))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
