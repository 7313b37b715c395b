"""Checkpoint files in their original layouts, read without running code that they contain."""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.errors import UserError

# What the readers raise on bytes that are none of theirs: the unpickler follows them blindly.
_DAMAGED = (
    pickle.UnpicklingError,
    SafetensorError,
    struct.error,
    zipfile.BadZipFile,
    *(ArithmeticError, AssertionError, AttributeError, EOFError, LookupError),
    *(MemoryError, OSError, RuntimeError, TypeError, ValueError),
)
_TELLING = (SafetensorError, zipfile.BadZipFile, EOFError, OSError, RuntimeError)


def read_checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The flat state dict of a `.pth`, `.pt`, `.bin` or `.safetensors` file, on the CPU.

    A dict under the key `model` or `state_dict` is unwrapped (RAM and Grounding DINO are released
    that way). Pickles are read with `weights_only=True`, so they cannot run code. Raises
    `UserError` where the file is missing, unreadable or holds anything but named tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; give the path of a .pth or .safetensors file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # mmap keeps a 2.5 GB file from being held twice; the legacy (non-zip) format cannot do it
        content = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except _DAMAGED as error:
        reason = "it is no PyTorch or safetensors file, or holds more than tensors"
        if isinstance(error, _TELLING):  # the others' words, such as a byte, are of no help
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{path} cannot be read as a checkpoint: {reason}; download it again or check its type"
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dict of named tensors")
    strange = [str(key) for key, value in content.items() if not isinstance(value, Tensor)]
    if strange or not content:
        raise UserError(
            f"{path} is not a dict of named tensors"
            + (f"; these entries are something else: {', '.join(strange[:5])}" if strange else "")
        )
    return dict(content)
