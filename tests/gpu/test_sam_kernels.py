"""The kernels of SAM's encoder on a GPU: as exact as torch's way in the same dtype."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from pad_pipeline.models.fp8 import scaled_linear_error
from pad_pipeline.models.sam.attention import use_fused_attention
from pad_pipeline.models.sam.encoder import encode, quantize_encoder, use_kernels
from pad_pipeline.models.sam.kernel_errors import add_norm_error, allowed, attention_error

VIT_H, VIT_B = (16, 80), (12, 64)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [VIT_H, VIT_B])
@pytest.mark.parametrize(("size", "side"), [((64, 64), 14), ((64, 64), 64), ((31, 50), 7)])
def test_the_attention_kernels_are_torch_to_the_last_bits(
    dtype: torch.dtype, shape: tuple[int, int], size: tuple[int, int], side: int
) -> None:
    like = torch.empty(0, dtype=dtype, device="cuda")
    assert attention_error(like, *shape, size, side) <= allowed(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("width", [768, 1024, 1280])
def test_the_sum_and_its_norm_are_torch_to_the_last_bits(dtype: torch.dtype, width: int) -> None:
    assert add_norm_error(torch.empty(0, dtype=dtype, device="cuda"), width) <= allowed(dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_encoder_with_kernels_errs_no_more_than_one_without(dtype: torch.dtype) -> None:
    exact, plain = encoder(torch.float32), encoder(dtype)
    use_fused_attention(plain)
    ours = copy.deepcopy(plain)
    assert use_kernels(ours)
    assert ours.forward.func is encode
    generator = torch.Generator("cuda").manual_seed(0)
    pixels = torch.randn(2, 3, 1024, 1024, device="cuda", generator=generator).to(dtype)
    with torch.inference_mode():
        want = exact(pixels.float()).last_hidden_state
        errors = [
            float((model(pixels).last_hidden_state.float() - want).norm() / want.norm())
            for model in (plain, ours)
        ]
    assert errors[1] <= 1.1 * errors[0], errors


@pytest.mark.skipif(
    torch.cuda.is_available() and torch.cuda.get_device_capability() < (8, 9),
    reason="needs a GPU that multiplies in 8 bits",
)
def test_8_bits_are_what_their_emulation_computes() -> None:
    assert scaled_linear_error("cuda") < 0.02
    ours, emulated = encoder(torch.bfloat16), encoder(torch.bfloat16)
    for model, emulate in ((ours, False), (emulated, True)):
        use_fused_attention(model)
        quantize_encoder(model, emulate=emulate)
    assert use_kernels(ours)
    pixels = torch.randn(2, 3, 1024, 1024, device="cuda").to(torch.bfloat16)
    with torch.inference_mode():
        found, want = (model(pixels).last_hidden_state.float() for model in (ours, emulated))
    assert float((found - want).norm() / want.norm()) < 0.05


def encoder(dtype: torch.dtype) -> Any:
    """ViT-B, always the same, with weights that make every term of attention count."""
    config = SamVisionConfig(num_hidden_layers=6, global_attn_indexes=[2, 5])
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    model = SamVisionEncoder(config).eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.data = 0.03 * torch.randn_like(parameter)
    for name, parameter in model.named_parameters():
        if "layer_norm" in name and name.endswith("weight"):
            parameter.data += 1.0
    return model.to("cuda", dtype)
