"""SAM's encoder with kernels: when it is used, and how many launches a pass takes."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.fp8 import ScaledLinear
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.models.sam.encoder import encode, quantize_encoder, use_kernels, why_not

NO_KERNEL = {
    *("detach", "view", "_unsafe_view", "expand", "permute", "transpose", "t", "unbind", "split"),
    *("slice", "select", "unsqueeze", "squeeze", "alias", "as_strided", "unflatten", "unfold"),
    *("empty", "empty_like", "empty_strided", "new_empty", "split_with_sizes"),
}
"""Operators that compute nothing."""


class CountLaunches(TorchDispatchMode):
    """Counts the operators that start a kernel on a GPU, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._overloadpacket.__name__
        if not func.is_view and name not in NO_KERNEL:
            # cuDNN adds a convolution's bias by a kernel of its own
            self.launches[name] += 2 if name == "convolution" and args[2] is not None else 1
        return func(*args, **(kwargs or {}))


def vision_encoder(**sizes: Any) -> SamVisionEncoder:
    config = SamVisionConfig(**sizes)
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        return SamVisionEncoder(config).eval().requires_grad_(False)


VIT_H = {
    "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16, "mlp_dim": 5120,
    "global_attn_indexes": [7, 15, 23, 31],
}  # fmt: skip


@pytest.mark.parametrize(("in_epilogue", "most"), [(False, 300), (True, 270)])
def test_a_pass_of_vit_h_takes_at_most_330_launches(in_epilogue: bool, most: int) -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA build for Linux")
    encoder = vision_encoder(**VIT_H).to(torch.bfloat16)
    pixels = torch.empty(8, 3, 1024, 1024, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), CountLaunches() as counted:
        output = encode(encoder, pixels, gelu_in_epilogue=in_epilogue)
    assert output.last_hidden_state.shape == (8, 256, 64, 64)
    assert [tokens.shape for tokens in output.intermediate_embeddings] == 4 * [(8, 64, 64, 1280)]
    assert counted.launches["sam_window_attention"] == 28
    assert counted.launches["sam_image_attention"] == 4
    assert counted.launches.total() <= most, counted.launches


def test_a_pass_in_8_bits_takes_at_most_330_launches() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch's CUDA build for Linux")
    encoder = vision_encoder(**VIT_H).to(torch.bfloat16)
    quantize_encoder(encoder)
    pixels = torch.empty(8, 3, 1024, 1024, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), CountLaunches() as counted:
        output = encode(encoder, pixels, gelu_in_epilogue=True)
    assert output.last_hidden_state.shape == (8, 256, 64, 64)
    assert counted.launches["_scaled_mm"] == 4 * 30
    assert counted.launches["scale_rows"] == 2 * 30
    assert counted.launches.total() <= 330, counted.launches


def test_the_first_and_last_layer_keep_their_dtype() -> None:
    encoder = vision_encoder(**{**VIT_H, "num_hidden_layers": 4})
    quantize_encoder(encoder)
    of_layers = [
        [isinstance(part, ScaledLinear) for part in layer.modules()].count(True)
        for layer in encoder.layers
    ]
    assert of_layers == [0, 4, 4, 0]


def test_the_released_sizes_fit_and_others_are_told() -> None:
    vit_b = {"hidden_size": 768, "num_hidden_layers": 1, "num_attention_heads": 12}
    vit_l = {"hidden_size": 1024, "num_hidden_layers": 1, "num_attention_heads": 16}
    for sizes in (vit_b, vit_l, {**VIT_H, "num_hidden_layers": 1}):
        assert why_not(vision_encoder(**sizes)) == ""
    assert "24 features" in why_not(vision_encoder(**{**vit_b, "num_attention_heads": 32}))
    assert "relative positions" in why_not(vision_encoder(**vit_b, use_rel_pos=False))
    assert "no bias" in why_not(vision_encoder(**vit_b, qkv_bias=False))


def test_on_a_cpu_the_encoder_stays_as_it_is_and_nothing_is_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    for dtype in ("float32", "bfloat16"):
        segmenter: Any = load_segmenter("embedded", Runtime(dtype=dtype))
        encoder = segmenter.model.vision_encoder
        assert not use_kernels(encoder)
        assert "forward" not in vars(encoder)
    assert "kernel" not in caplog.text
