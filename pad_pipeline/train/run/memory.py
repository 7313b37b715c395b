"""The memory of a training worker, estimated from the model's code and sizes, without weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

from pad_pipeline.train.caption_loss import LOGITS_AT_ONCE
from pad_pipeline.train.choices import TrainingStage, trains_llm
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig

USABLE = 0.92
"""The part of a card's memory that tensors may take; CUDA itself and gaps take the rest."""
_PROBE_TOKENS = 64
_LOGIT_BYTES = 12
"""Scores in float32, their softmax and their gradient."""


class MemoryEstimate:
    """Bytes that a worker of a run needs at its peak, by tokens per pass and by kept layers.

    Weights, gradients, AdamW's moments and averages (float32) of what is trained; frozen weights;
    what each layer keeps for its backward pass, counted by running one on sizes alone; logits.
    """

    def __init__(
        self, model: VisionLanguageModel, config: TrainConfig, stage: TrainingStage, dtype: Any
    ) -> None:
        """`model` lies on the device "meta"; `dtype` is that of the passes."""
        counts = model.parameter_counts()
        trained = sum(count[0] for count in counts.values())
        frozen = sum(count[1] for count in counts.values())
        llm = model.llm.config
        self.num_layers = len(model.llm.get_decoder().layers)
        shards = config.workers if trains_llm(stage) and not config.lora_rank else 1
        per_trained = 16 + 4 * (config.ema_decay > 0)
        self.fixed = frozen * dtype.itemsize + trained * per_trained / shards
        """Bytes that no setting of the passes changes."""
        if shards > 1:  # gathered at a time: all that lies outside the layers, and one layer
            layers = sum(p.numel() for p in model.llm.get_decoder().layers.parameters())
            self.fixed += 4 * (trained - layers + layers / self.num_layers)
        self._input = llm.hidden_size * dtype.itemsize
        self._layer = _kept_bytes(model, dtype, trained=trains_llm(stage))
        # Weights kept in float32 are copied to the type of the passes, layer by layer.
        is_cast = trains_llm(stage) and not config.lora_rank and dtype.itemsize < 4
        layer = model.llm.get_decoder().layers[0]
        self._cast = is_cast * sum(p.numel() for p in layer.parameters()) * dtype.itemsize
        self._words = llm.vocab_size

    def peak(self, tokens: int, targets: int, kept_layers: int) -> float:
        """Bytes with `tokens` per pass, `targets` of them supervised."""
        again = self.num_layers - kept_layers
        activations = tokens * (kept_layers * self._layer + again * self._input)
        if again:  # one layer at a time
            activations += tokens * self._layer
        casts = (kept_layers + bool(again)) * self._cast
        logits = min(targets * self._words, LOGITS_AT_ONCE) * _LOGIT_BYTES
        return self.fixed + activations + casts + logits

    def fit(self, card_gb: float, tokens: int, least_tokens: int) -> tuple[int, int] | None:
        """(tokens per pass, layers that keep their activations) that a card holds, or None.

        As many tokens of `tokens` as fit, halved down to `least_tokens`; then as many layers.
        """
        room = card_gb * 1e9 * USABLE
        while self.peak(tokens, tokens, 0) > room:
            if tokens <= least_tokens:
                return None
            tokens = max(tokens // 2, least_tokens)
        kept = [n for n in range(self.num_layers + 1) if self.peak(tokens, tokens, n) <= room]
        return tokens, kept[-1]


def _kept_bytes(model: VisionLanguageModel, dtype: Any, *, trained: bool) -> float:
    """Bytes per token that a decoder layer keeps for its backward pass."""
    decoder, config = model.llm.get_decoder(), model.llm.config
    layer = decoder.layers[0]
    before = config._attn_implementation
    hidden = torch.empty(
        1, _PROBE_TOKENS, config.hidden_size, dtype=dtype, device="meta", requires_grad=True
    )
    positions = torch.arange(_PROBE_TOKENS, device="meta")[None]
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    dtypes = {p: p.dtype for p in layer.parameters()}
    grads = {p: p.requires_grad for p in layer.parameters()}
    try:
        config._attn_implementation = _SIZES
        for parameter in layer.parameters():
            parameter.data = parameter.data.to(dtype)
            parameter.requires_grad_(trained and not model.has_lora)
        weights = {p.untyped_storage()._cdata for p in layer.parameters()}
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(
                hidden,
                position_embeddings=decoder.rotary_emb(hidden, positions),
                position_ids=positions,
            )
    finally:
        config._attn_implementation = before
        for parameter, kind in dtypes.items():
            parameter.data = parameter.data.to(kind)
            parameter.requires_grad_(grads[parameter])
    number = sum(t.untyped_storage().nbytes() for c, t in kept.items() if c not in weights)
    return number / _PROBE_TOKENS


class _Fused(torch.autograd.Function):
    """Keeps what fused attention keeps; computes nothing."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        raise NotImplementedError


def _sizes(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **others: Any
) -> tuple[Tensor, None]:
    return _Fused.apply(query, key, value).transpose(1, 2), None  # pyright: ignore


_SIZES = "pad_sizes"
AttentionInterface.register(_SIZES, _sizes)
