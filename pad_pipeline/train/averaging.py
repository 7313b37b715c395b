"""An exponential moving average of the trained weights (EMA), beside them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.distributed.fsdp import FSDPModule
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pad_pipeline.train.model.vlm import VisionLanguageModel


def decay_at(step: int, decay: float) -> float:
    """The decay at a step (from 0): (1 + step) / (10 + step) until that is `decay`.

    Without this rise, as in TensorFlow's `ExponentialMovingAverage`, the average of a short run
    would be its first weights.
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedWeights:
    """The average of a model's trained weights; begins with what they are now.

    Of a sharded model each worker averages its shards.
    """

    def __init__(self, model: VisionLanguageModel, decay: float) -> None:
        self._model = model
        self._decay = decay
        self._parameters = model.trained_parameters()
        self._averages = [parameter.detach().clone() for parameter in self._parameters]

    def update(self, step: int) -> None:
        """Take in the weights after `step`."""
        average = get_ema_multi_avg_fn(decay_at(step, self._decay))
        average(self._averages, [each.detach() for each in self._parameters], None)  # pyright: ignore[reportArgumentType]

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The model has the averages for as long as the block lasts; what it changes they keep."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for parameter, average in zip(self._parameters, self._averages, strict=True):
            weights = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(weights)
        for module in self._model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()  # what a forward pass has gathered is no longer right
