"""FSDP2 for stage 2: weights, gradients and optimiser states divided over the workers.

Source: torch's `fully_shard`. Each decoder layer is a unit; what is left (embedding, output layer,
projector, tower) is gathered with the whole model.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard

from pad_pipeline.train.model.vlm import VisionLanguageModel

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
_TRAINED = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_TRAINED_IN = StateDictOptions(
    full_state_dict=True, broadcast_from_rank0=True, ignore_frozen_params=True, strict=False
)


def shard(model: VisionLanguageModel) -> None:
    """Divide the model over the default process group; gradients are sums over the workers."""
    for layer in model.llm.get_decoder().layers:
        fully_shard(layer)
    fully_shard(model)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The step divides by counts over all workers itself.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` has been called."""
    return isinstance(model, FSDPModule)


def gather_state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Trained weights and optimiser of all workers, whole, on rank 0; all workers must call it."""
    return {
        "weights": gather_trained(model),
        "optimizer": get_optimizer_state_dict(model, optimizer, options=_TRAINED),
    }


def scatter_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> None:
    """The inverse of `gather_state`; rank 0's state is what counts."""
    scatter_trained(model, state["weights"])
    set_optimizer_state_dict(model, optimizer, state["optimizer"], options=_TRAINED_IN)


def gather_trained(model: nn.Module) -> dict[str, Any]:
    """Trained weights, whole, on rank 0; all workers must call it."""
    return get_model_state_dict(model, options=_TRAINED)


def scatter_trained(model: nn.Module, weights: dict[str, Any]) -> None:
    """The inverse of `gather_trained`; rank 0's weights are what counts."""
    own = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert dist.get_rank() or own == weights.keys(), own ^ weights.keys()
    found = set_model_state_dict(model, weights, options=_TRAINED_IN)
    # frozen weights are not in it and stay as they are; nothing else may be missing
    assert not found.unexpected_keys, found.unexpected_keys[:4]
    assert own.isdisjoint(found.missing_keys), sorted(own & set(found.missing_keys))[:4]


def gather_weights(model: nn.Module) -> dict[str, Any]:
    """All weights, whole, on rank 0; all workers must call it."""
    return get_model_state_dict(model, options=_WHOLE)
