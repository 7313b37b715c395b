"""Floating-point operations of a training step, from the sizes of its model and samples.

A multiplication and an addition are two operations; only matrix products and convolutions count.
Attention counts every pair of tokens of a row, the pairs behind the token too, as in the usual
definition of utilisation (Chowdhery et al. 2022, appendix B).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pad_pipeline.train.choices import TrainingStage, trains_llm
from pad_pipeline.train.model.vlm import VisionLanguageModel


@dataclass(frozen=True, slots=True)
class PassSize:
    """What one pass through the model holds."""

    tokens: int
    """Computed tokens, padding included."""
    pairs: int
    """Pairs of tokens of the same row."""
    images: int
    targets: int
    """Supervised tokens."""
    regions: int


@dataclass(frozen=True, slots=True)
class FlopRates:
    """Operations of a forward and backward pass, by what they grow with."""

    per_token: float
    per_pair: float
    per_image: float
    per_target: float
    per_region: float
    """All of the patch loss."""

    def total(self, passes: Iterable[PassSize]) -> float:
        """The operations of `passes`."""
        return sum(
            each.tokens * self.per_token
            + each.pairs * self.per_pair
            + each.images * self.per_image
            + each.targets * self.per_target
            + each.regions * self.per_region
            for each in passes
        )

    def patch_loss_share(self, passes: Sequence[PassSize]) -> float:
        """The share of the patch loss in the operations of `passes` (0-1)."""
        regions = sum(each.regions for each in passes)
        return regions * self.per_region / max(self.total(passes), 1.0)


def padded_pass(lengths: Sequence[int], *, images: int, targets: int, regions: int) -> PassSize:
    """Samples of these lengths in rows of their own, as long as the longest."""
    rows, longest = len(lengths), max(lengths)
    return PassSize(rows * longest, rows * longest**2, images, targets, regions)


def packed_pass(lengths: Sequence[int], *, images: int, targets: int, regions: int) -> PassSize:
    """Samples of these lengths one behind another."""
    pairs = sum(length**2 for length in lengths)
    return PassSize(sum(lengths), pairs, images, targets, regions)


def flop_rates(
    model: VisionLanguageModel, stage: TrainingStage, *, recomputed_layers: int = 0
) -> FlopRates:
    """The rates of `model`, which may lie on the device "meta".

    `recomputed_layers` of the language model compute their forward pass twice (activation
    checkpointing); without, these are the operations that utilisation counts.
    """
    decoder, config = model.llm.get_decoder(), model.llm.config
    layers = len(decoder.layers)
    linear = [each for each in decoder.modules() if isinstance(each, nn.Linear)]
    products = 2 * sum(each.in_features * each.out_features for each in linear)
    heads = config.num_attention_heads
    head_width = getattr(config, "head_dim", None) or config.hidden_size // heads
    pairs = 4 * layers * heads * head_width
    again = recomputed_layers / layers
    # Behind the forward pass gradients of the inputs, and of the weights where these are trained.
    trained = trains_llm(stage) and not model.has_lora
    # The second forward pass of a layer ends before its last product.
    last = 2 * layers * linear[-1].in_features * linear[-1].out_features
    head = 2 * config.hidden_size * config.vocab_size
    return FlopRates(
        per_token=products * (2 + trained) + (products - last) * again,
        per_pair=pairs * (3 + again),
        per_image=_image_flops(model),
        per_target=head * (2 + trained),
        # the mean of a region's tokens, and its gradient
        per_region=4 * model.projector.num_tokens * model.projector.llm_width,
    )


def _image_flops(model: VisionLanguageModel) -> float:
    """Of one image: the tower's forward pass, the projector's and its backward pass."""
    side = int(model.vision.config.image_size)  # pyright: ignore[reportArgumentType]
    dtype = next(model.projector.parameters()).dtype
    with FlopCounterMode(display=False) as counter:
        patches = model.encode(torch.zeros(1, 3, side, side, device=model.device))
        model.project(patches.to(dtype)).sum().backward()
    for parameter in model.projector.parameters():
        parameter.grad = None
    return float(counter.get_total_flops())
