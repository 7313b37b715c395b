"""Operations and memory of a step: estimates against what torch counts in a real one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPVisionModel, LlamaConfig, LlamaForCausalLM

from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import PRESETS, TrainConfig
from pad_pipeline.train.run.flops import flop_rates, packed_pass, padded_pass
from pad_pipeline.train.run.memory import MemoryEstimate
from pad_pipeline.train.step import training_step
from pad_pipeline.train.trainer import make_optimizer
from tests.train.model.test_packed_attention import model_of, packed, with_regions
from tests.train.model.toy_llava import random_batch, settings

LENGTHS = [24, 12, 20]
"""Of the samples of `random_batch`, image tokens included."""


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("is_packed", [False, True])
@pytest.mark.parametrize("again", [False, True])
def test_operations_are_those_that_torch_counts(stage, is_packed: bool, again: bool) -> None:
    model, batch = model_of("llama", stage), with_regions(random_batch())
    assert batch.attention_BT.sum(1).tolist() == LENGTHS
    if again:
        model.enable_activation_checkpointing(kept_layers=1)
    if is_packed:
        model.enable_packing(64)
        batch = packed(batch)
    config = TrainConfig(vision="", llm="")
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        training_step(
            model,
            make_optimizer(model, config),
            [batch],
            beta=5.0,
            config=config,
            workers=OneWorker(),
            step=0,
        )
    rates = flop_rates(model, stage, recomputed_layers=2 if again else 0)
    make = packed_pass if is_packed else padded_pass
    size = make(LENGTHS, images=2, targets=batch.num_targets, regions=4)
    assert rates.total([size]) == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_what_a_layer_keeps_is_what_torch_keeps() -> None:
    vision, _ = settings()
    sizes = LlamaConfig(
        vocab_size=64,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=2,
        num_attention_heads=4,
    )
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    llm = LlamaForCausalLM(sizes).bfloat16().requires_grad_(False)
    inputs = torch.randn(1, 96, 128, dtype=torch.bfloat16, requires_grad=True)
    weights = {p.untyped_storage().data_ptr() for p in llm.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        llm.model(inputs_embeds=inputs, use_cache=False)
    found = sum(t.untyped_storage().nbytes() for p, t in kept.items() if p not in weights)
    with torch.device("meta"):
        model = VisionLanguageModel(
            CLIPVisionModel(vision),
            build_projector("mlp", vision_width=32, llm_width=128, grid=4),
            LlamaForCausalLM(sizes),
        )
    config = PRESETS["pretrain"]["paper"]()
    memory = MemoryEstimate(model, config, "pretrain", torch.bfloat16)
    estimate = memory.peak(96, 0, 2) - memory.fixed
    assert estimate == pytest.approx(found, rel=0.1)


def test_what_fits_shrinks_with_the_card() -> None:
    with torch.device("meta"):
        model = model_of("llama")
    config = replace(PRESETS["pretrain"]["paper"](), activation_checkpointing=True)
    memory = MemoryEstimate(model, config, "pretrain", torch.bfloat16)
    assert memory.fit(1.0, 4096, 2048) == (4096, 3)
    tokens, kept = memory.fit(memory.peak(2048, 2048, 1) / 1e9 / 0.92, 8192, 2048) or (0, 0)
    assert (tokens, kept) == (2048, 1)
    assert memory.fit(memory.fixed / 1e9, 8192, 2048) is None
