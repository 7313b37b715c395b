"""Counting the launches of a model's pass, on tensors without numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_NO_KERNEL = frozenset(
    {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "alias",
     "_unsafe_view", "_reshape_alias", "lift_fresh", "resize_", "set_"}
)  # fmt: skip
"""Operators that compute nothing and are no views either."""


class LaunchCounter(TorchDispatchMode):
    """Counts the operators that launch at least one kernel, copies to the device among them.

    Views and empty tensors launch nothing. An operator counts once, though a GPU may launch a few
    kernels for it (a group norm, a product that is added to a matrix). With `device` "meta" only
    what has a tensor there counts: what the host makes is no launch.
    """

    def __init__(self, device: str = "meta") -> None:
        super().__init__()
        self.device = device
        self.counts: Counter[str] = Counter()

    @property
    def total(self) -> int:
        """Launches so far."""
        return self.counts.total()

    def count(self, name: str) -> None:
        """Add one launch, of a kernel that is no operator of torch."""
        self.counts[name] += 1

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func._overloadpacket.__name__
        tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(out) if torch.is_tensor(leaf)]
        on_device = any(tensor.device.type == self.device for tensor in tensors)
        if on_device and not func.is_view and name not in _NO_KERNEL:
            self.counts[name] += 1
        return out


def fused_attention(
    counter: LaunchCounter, query: Tensor, key: Tensor, value: Tensor, *_: Any, **__: Any
) -> Tensor:
    """Stands in for torch's: one launch, its output laid out as a GPU's."""
    del key
    counter.count("attention")
    rows, heads, queries, _ = query.shape
    return value.new_empty(rows, queries, heads, value.shape[-1]).transpose(1, 2)
