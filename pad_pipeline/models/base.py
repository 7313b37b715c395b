"""What every model of the chain has in common: runtime and strict loading."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from pad_pipeline.errors import Setting, UserError

T = TypeVar("T")

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how a model runs."""

    device: str = "cpu"
    dtype: str = "float32"
    compile: bool = False

    @property
    def torch_dtype(self) -> torch.dtype:
        """The torch dtype of the weights and activations."""
        return DTYPES[self.dtype]


def check_device(device: str) -> None:
    """Raise `UserError` where a CUDA device is asked for that is not there."""
    if torch.device(device).type != "cuda":
        return
    if not torch.cuda.is_available():
        raise UserError(
            f"torch sees no CUDA GPU here for the device {device!r}; use ",
            Setting("device", "cpu"),
            " or install the CUDA build of torch",
        )
    index = torch.device(device).index or 0
    if index >= torch.cuda.device_count():
        raise UserError(
            f"device {device!r} was asked for, but torch sees {torch.cuda.device_count()} GPU(s) "
            "here, numbered from 0"
        )


def prepare(runtime: Runtime) -> None:
    """Make a runtime ready for models; raises `UserError` where its device is missing.

    torch lets convolutions in float32 round to the 10 bits of TF32 on a GPU, which moves the
    models' outputs by 1e-2: whoever asks for float32 gets float32, in this whole process.
    """
    check_device(runtime.device)
    if runtime.dtype == "float32" and torch.device(runtime.device).type == "cuda":
        torch.backends.cudnn.allow_tf32 = False


def list_keys(differences: Mapping[str, Iterable[str]]) -> str:
    """The number and the first names of each kind of difference, "" where there is none."""
    parts = []
    for what, keys in differences.items():
        names = sorted(keys)
        if names:
            more = ", …" if len(names) > 5 else ""
            parts.append(f"{len(names)} {what} ({', '.join(names[:5])}{more})")
    return "; ".join(parts)


def load_strictly(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    source: str,
    derived: Iterable[str] = (),
) -> None:
    """Copy `state` into `module`; every parameter and buffer must be there with its shape.

    `derived` names buffers that the module computes for itself and that the state may lack.
    Raises `UserError` with the first keys that differ. Works for modules on the meta device
    (the tensors are then assigned, not copied).
    """
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    derived = set(derived)
    missing = sorted(name for name in wanted if name not in state and name not in derived)
    unexpected = sorted(name for name in state if name not in wanted)
    reshaped = sorted(
        f"{name} is {tuple(state[name].shape)} instead of {shape}"
        for name, shape in wanted.items()
        if name in state and tuple(state[name].shape) != shape
    )
    differing = list_keys(
        {"missing": missing, "unexpected": unexpected, "of another shape": reshaped}
    )
    if differing:
        raise UserError(f"{source} does not fit the model: {differing}")
    on_meta = any(parameter.is_meta for parameter in module.parameters())
    module.load_state_dict(dict(state), strict=not derived, assign=on_meta)


def in_batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """`items` in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
