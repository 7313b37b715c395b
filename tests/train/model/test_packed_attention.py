"""Packed samples: the loss and the gradients of samples in rows of their own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    CLIPVisionModel,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from pad_pipeline.errors import UserError
from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.model import packed_attention
from pad_pipeline.train.model.packed_attention import check_packable, sample_bounds
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.step import losses
from tests.train.model.toy_llava import random_batch, settings

SIZES: dict[str, Any] = {
    "vocab_size": settings()[1].vocab_size,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
FAMILIES = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}


def model_of(family: str, stage: Any = "finetune") -> VisionLanguageModel:
    """A small model of the family, of the same weights at every call."""
    torch.manual_seed(3)
    vision, _ = settings()
    sizes = dict(SIZES)
    if family == "qwen2":
        sizes.pop("head_dim")
    llm = AutoModelForCausalLM.from_config(FAMILIES[family](**sizes))
    projector = build_projector("mlp", vision_width=32, llm_width=64, grid=4)
    model = VisionLanguageModel(CLIPVisionModel(vision), projector, llm)
    model.freeze(stage)
    return model


def with_regions(batch: Batch) -> Batch:
    """Two regions on the first image, one on the second."""
    coverage = torch.zeros(len(batch.pixels_ICHW), 2, 16)
    coverage[0, 0, :6], coverage[0, 1, 8:], coverage[1, 0, 3:9] = 1, 0.7, 1
    return replace(
        batch,
        coverage_IRS=coverage,
        region_mask_IR=torch.tensor([[True, True], [True, False]]),
        label_index_IR=torch.tensor([[0, 1], [1, 0]]),
        label_ids=[[5, 6], [7]],
    )


def packed(batch: Batch) -> Batch:
    """The rows of a padded batch one behind another."""
    there = batch.attention_BT
    labels = batch.labels_BT.clone()
    labels[:, 0] = IGNORE_INDEX
    return replace(
        batch,
        input_ids_BT=batch.input_ids_BT[there][None],
        labels_BT=labels[there][None],
        attention_BT=there[there][None],
        image_mask_BT=batch.image_mask_BT[there][None],
        packed_lengths=tuple(there.sum(1).tolist()),
    )


def loss_and_gradients(model: VisionLanguageModel, batch: Batch) -> tuple[Any, dict[str, Any]]:
    model.zero_grad()
    config = TrainConfig(vision="", llm="")
    passes, patch = losses(model, batch, config, with_gradient=True)
    caption_sum = passes.caption_sum
    (caption_sum / batch.num_targets + 2.5 * patch.mean).backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return (caption_sum.item(), patch.total.item(), batch.num_targets), gradients


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_packing_changes_neither_loss_nor_gradients(family: str, stage: str) -> None:
    batch = with_regions(random_batch())
    model = model_of(family, stage)
    losses_padded, padded = loss_and_gradients(model, batch)
    model.enable_packing(64)
    losses_packed, found = loss_and_gradients(model, packed(batch))
    assert losses_packed == pytest.approx(losses_padded, rel=1e-6)
    assert found.keys() == padded.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, padded[name], rtol=1e-5, atol=1e-6, msg=name)


def test_a_sample_does_not_see_the_others() -> None:
    model = model_of("llama").eval()
    model.enable_packing(64)
    inputs = torch.randn(1, 30, 64)
    with torch.no_grad():
        before = model.hidden(inputs, (7, 12, 11))
        inputs[:, 7:19] += 1
        after = model.hidden(inputs, (7, 12, 11))
        alone = model.hidden(inputs[:, 7:19])
    assert torch.equal(before[:, :7], after[:, :7])
    assert torch.equal(before[:, 19:], after[:, 19:])
    torch.testing.assert_close(after[:, 7:19], alone)


def test_positions_begin_again_with_every_sample() -> None:
    bounds, positions = sample_bounds((3, 1, 2), torch.device("cpu"))
    assert bounds.tolist() == [0, 3, 4, 6]
    assert positions.tolist() == [[0, 1, 2, 0, 0, 1]]


@pytest.mark.parametrize("kept", [0, 1, 99])
def test_kept_activations_change_nothing(kept: int) -> None:
    batch = packed(with_regions(random_batch()))
    model = model_of("llama")
    model.enable_packing(64)
    wanted = loss_and_gradients(model, batch)
    model.enable_activation_checkpointing(kept)
    layers = model.llm.get_decoder().layers
    assert sum(not layer.gradient_checkpointing for layer in layers) == min(kept, 3)
    found = loss_and_gradients(model, batch)
    assert found[0] == wanted[0]
    for name, gradient in found[1].items():
        torch.testing.assert_close(gradient, wanted[1][name], rtol=1e-5, atol=1e-7, msg=name)


def test_attention_that_cannot_be_packed_is_refused() -> None:
    windowed = MistralConfig(**SIZES, sliding_window=512)
    check_packable(windowed, 512)
    with pytest.raises(UserError, match="attends to the last 512 tokens only"):
        check_packable(windowed, 2048)
    check_packable(Qwen2Config(use_sliding_window=False, sliding_window=512), 2048)
    with pytest.raises(UserError, match="drops attention weights"):
        check_packable(LlamaConfig(attention_dropout=0.1), 2048)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_a_gpus_kernels_are_called_as_torch_declares_them(
    monkeypatch: pytest.MonkeyPatch, kv_heads: int
) -> None:
    """Shapes alone, on the device "meta": what the kernels compute only a GPU can show."""
    monkeypatch.setattr(packed_attention, "has_varlen_kernels", lambda device, dtype: True)
    query = torch.empty(1, 4, 30, 16, device="meta", dtype=torch.bfloat16)
    key, value = (query.new_empty(1, kv_heads, 30, 16) for _ in range(2))
    bounds = torch.empty(4, device="meta", dtype=torch.int32)
    out, _ = packed_attention.packed_attention(
        torch.nn.Identity(),
        query.float(),  # as rotary embeddings leave it under autocast
        key,
        value,
        None,
        scaling=0.25,
        cu_seq_lens_q=bounds,
        max_length_q=12,
    )
    assert out.shape == (1, 30, 4, 16)
    assert out.dtype == torch.bfloat16
