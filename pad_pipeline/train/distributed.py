"""The workers of a run: this process alone, or a torch process group."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from torch.nn import Parameter


class Workers(Protocol):
    """The workers of a run, as a step needs them."""

    rank: int
    size: int

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all workers, the same on each."""
        ...

    def all_reduce_max(self, value: int) -> int:
        """The largest value of all workers."""
        ...

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Replace every gradient by its sum over all workers."""
        ...


class OneWorker:
    """This process alone."""

    rank = 0
    size = 1

    def sum(self, values: Sequence[float]) -> list[float]:
        """The values themselves."""
        return list(values)

    def all_reduce_max(self, value: int) -> int:
        """The value itself."""
        return value

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Nothing to add."""


class ProcessGroup:
    """`Workers` over torch.distributed's default group; with one process, see `workers`."""

    def __init__(self) -> None:
        """The group must be initialised."""
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()
        on_gpu = dist.get_backend() == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if on_gpu else "cpu"

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sums over all workers, the same on each."""
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def all_reduce_max(self, value: int) -> int:
        """The largest value of all workers."""
        tensor = torch.tensor([value], device=self._device)
        dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
        return int(tensor)

    def sum_gradients(self, parameters: Iterable[Parameter]) -> None:
        """Replace every gradient by its sum over all workers, in one message."""
        # gradients of sharded weights are sums already
        trained = [each for each in parameters if not isinstance(each, DTensor)]
        if not trained:
            return
        for parameter in trained:
            if parameter.grad is None:  # this worker had no sample
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def workers() -> Workers:
    """The workers of this process: its group, or itself where there is none."""
    if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
        return ProcessGroup()
    return OneWorker()
