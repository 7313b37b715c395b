"""Our models against recorded outputs of the original code: one row per compared output."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime, prepare

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


def verify(
    directory: str | Path, tolerance: float = 1e-4, runtime: Runtime | None = None
) -> list[VerifyRow]:
    """Run what the folder describes through our code and compare with what it expects.

    The models run as `runtime` says, by default in float32 on the CPU.

    A model's folder holds config.json (`model` says which), checkpoint.safetensors in the original
    key names, inputs.safetensors, expected.safetensors and expected.json; the checkpoint is loaded
    as a user's is. Folders of the steps between the models (suppression and run lengths, resizing,
    a whole chain) are known by their files. A folder of such folders stands for all of them.
    Raises `UserError` where the folder has another form, its checkpoint does not fit, or the
    device is not there.
    """
    directory, runtime = Path(directory), runtime or Runtime()
    prepare(runtime)
    if not directory.is_dir():
        raise UserError(f"there is no folder {directory}; give one with config.json and expected.*")
    inner = _folders_in(directory)
    if inner:
        return [
            replace(row, name=f"{folder.name}/{row.name}")
            for folder in inner
            for row in verify(folder, tolerance, runtime)
        ]
    check = _check_for(directory)
    try:
        return check(directory, tolerance, runtime)
    except FileNotFoundError as error:
        raise UserError(
            f"{directory} is incomplete: {Path(str(error.filename)).name} is missing; expected "
            "config.json, checkpoint.safetensors, inputs.safetensors, expected.safetensors and "
            "expected.json"
        ) from error
    except (KeyError, json.JSONDecodeError) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(
            f"{directory} does not have the form of recorded outputs: {what}"
        ) from error


def _folders_in(directory: Path) -> list[Path]:
    """The folders of recorded outputs in one that is none itself; others are left out."""
    from pad_pipeline.models import verify_chain, verify_models

    files = ("config.json", *verify_chain.CHECKS)
    if any((directory / file).is_file() for file in files):
        return []
    inner = []
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        if (folder / "config.json").is_file():
            known = read_json(folder / "config.json").get("model") in verify_models.CHECKS
        elif (folder / "expected.json").is_file():
            known = "uses" in read_json(folder / "expected.json")
        else:
            known = any((folder / file).is_file() for file in verify_chain.CHECKS)
        if known:
            inner.append(folder)
    return inner


def _check_for(directory: Path) -> Check:
    from pad_pipeline.models import verify_chain, verify_models

    if (directory / "config.json").is_file():
        model = read_json(directory / "config.json").get("model")
        if model not in verify_models.CHECKS:
            raise UserError(
                f"{directory / 'config.json'} names the model {model!r}; expected one of "
                f"{', '.join(verify_models.CHECKS)}"
            )
        return verify_models.CHECKS[model]
    for file, check in verify_chain.CHECKS.items():
        if (directory / file).is_file():
            return check
    raise UserError(
        f"{directory} holds neither a config.json nor any of {', '.join(verify_chain.CHECKS)}; "
        "give a folder of recorded outputs"
    )


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


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
