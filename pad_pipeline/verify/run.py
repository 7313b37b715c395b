"""Our models against recorded outputs of the original code: one row per compared output."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.verify.end_to_end import check_whole_chain
from pad_pipeline.verify.grounding_dino import check_grounding_dino
from pad_pipeline.verify.nms_and_rle import check_nms_and_rle
from pad_pipeline.verify.preprocessing import check_preprocessing
from pad_pipeline.verify.ram import check_ram
from pad_pipeline.verify.records import RECORDS_FILE, check_records
from pad_pipeline.verify.rows import Check, VerifyRow, read_json
from pad_pipeline.verify.sam import check_sam

MODEL_CHECKS: Mapping[str, Check] = {
    "ram": check_ram,
    "ram_plus": check_ram,
    "groundingdino": check_grounding_dino,
    "sam": check_sam,
}
"""By `model` of the folder's config.json."""

STEP_CHECKS: Mapping[str, Check] = {
    "nms_cases.json": check_nms_and_rle,
    "resize_sizes.json": check_preprocessing,
    RECORDS_FILE: check_records,
    "expected.json": check_whole_chain,
}
"""By a file that only such a folder holds; the last where there is no config.json."""


def verify(
    directory: str | Path, tolerance: float = 1e-4, runtime: Runtime | None = None
) -> list[VerifyRow]:
    """Run what the folder describes through our code and compare with what it expects.

    The models run as `runtime` says, by default in float32 on the CPU.

    A model's folder holds config.json (`model` says which), checkpoint.safetensors in the original
    key names, inputs.safetensors, expected.safetensors and expected.json; the checkpoint is loaded
    as a user's is. Folders of the steps between the models (suppression and run lengths, resizing,
    a whole chain) and of the embedded models' records are known by their files. A folder of such
    folders stands for all of them.
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
    files = ("config.json", *STEP_CHECKS)
    if any((directory / file).is_file() for file in files):
        return []
    inner = []
    for folder in sorted(path for path in directory.iterdir() if path.is_dir()):
        if (folder / "config.json").is_file():
            known = read_json(folder / "config.json").get("model") in MODEL_CHECKS
        elif (folder / "expected.json").is_file():
            known = "uses" in read_json(folder / "expected.json")
        else:
            known = any((folder / file).is_file() for file in STEP_CHECKS)
        if known:
            inner.append(folder)
    return inner


def _check_for(directory: Path) -> Check:
    if (directory / "config.json").is_file():
        model = read_json(directory / "config.json").get("model")
        if model not in MODEL_CHECKS:
            raise UserError(
                f"{directory / 'config.json'} names the model {model!r}; expected one of "
                f"{', '.join(MODEL_CHECKS)}"
            )
        return MODEL_CHECKS[model]
    for file, check in STEP_CHECKS.items():
        if (directory / file).is_file():
            return check
    raise UserError(
        f"{directory} holds neither a config.json nor any of {', '.join(STEP_CHECKS)}; "
        "give a folder of recorded outputs"
    )
