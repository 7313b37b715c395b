"""A projector's files: its weights under public names and, beside them, its settings."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.train.choices import ProjectorKind
from pad_pipeline.train.model.compatibility import patch_grid
from pad_pipeline.train.model.projectors import (
    Projector,
    build_projector,
    kind_of,
    llava_state,
    load_llava_state,
    strip_prefix,
)

PROJECTOR_FILES = ("mm_projector.safetensors", "mm_projector.bin")
"""Weights in a projector's directory, in the order of preference."""

SETTINGS_FILE = "projector.json"
"""What `build_projector` takes, beside the weights."""


def load_projector(
    reference: str | Path,
    *,
    vision_config: Any,
    llm_width: int,
    num_tokens: int = 256,
    hidden_width: int | None = None,
) -> Projector:
    """A projector of a kind, or the one of a directory or file, for this tower and LLM.

    Raises `UserError` where it is missing, unreadable or of other sizes.
    """
    grid, vision_width = patch_grid(vision_config), int(vision_config.hidden_size)
    if reference in get_args(ProjectorKind):
        return build_projector(
            cast(ProjectorKind, reference),
            vision_width=vision_width,
            llm_width=llm_width,
            grid=grid,
            num_tokens=num_tokens,
            hidden_width=hidden_width,
        )
    file, settings = _projector_file(Path(reference))
    state = _read_state(file)
    if not settings:
        own = strip_prefix(state)
        readout = own.get("readout.0.weight")
        settings = {
            "kind": kind_of(state, str(file)),
            "num_tokens": num_tokens,
            "hidden_width": readout.shape[1] if readout is not None else hidden_width,
        }
    known = {
        "kind",
        "vision_width",
        "llm_width",
        "grid",
        "num_tokens",
        "hidden_width",
        "image_newline",
    }
    try:
        projector = build_projector(
            **{
                "vision_width": vision_width,
                "llm_width": llm_width,
                "grid": grid,
                **{name: value for name, value in settings.items() if name in known},
            }
        )
    except TypeError as error:
        raise UserError(
            f"{file.parent / SETTINGS_FILE} does not describe a projector ({error})"
        ) from error
    load_llava_state(projector, state, source=str(file))
    return projector


def save_projector(projector: Projector, directory: str | Path) -> list[Path]:
    """Write the projector's weights (public names, float32) and settings; the files written.

    The directory must be there.
    """
    weights, settings = Path(directory) / PROJECTOR_FILES[0], Path(directory) / SETTINGS_FILE
    save_file(
        {
            name: tensor.detach().float().contiguous().cpu()
            for name, tensor in llava_state(projector).items()
        },
        weights,
    )
    settings.write_text(json.dumps(projector.settings(), indent=1) + "\n", encoding="utf-8")
    return [weights, settings]


def _projector_file(path: Path) -> tuple[Path, dict[str, Any]]:
    """The weights of a directory or file, and the settings beside them."""
    if path.is_dir():
        found = [path / name for name in PROJECTOR_FILES if (path / name).is_file()]
        if not found:
            raise UserError(
                f"{path} holds no projector: expected one of {', '.join(PROJECTOR_FILES)}"
            )
        file = found[0]
    elif path.is_file():
        file = path
    else:
        raise UserError(
            f"the projector {path} is not there; give a directory or file of one, or a kind: "
            + ", ".join(get_args(ProjectorKind))
        )
    settings = file.parent / SETTINGS_FILE
    if not settings.is_file():
        return file, {}
    try:
        return file, dict(json.loads(settings.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise UserError(f"{settings} cannot be read: {error}") from error


def _read_state(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, SafetensorError, pickle.UnpicklingError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"{file} cannot be read as a projector's weights: {reason}; expected a dictionary of "
            "tensors in safetensors or torch's format"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(each, Tensor) for each in state.values()):
        raise UserError(f"{file} holds no dictionary of tensors, so no projector's weights")
    return state
