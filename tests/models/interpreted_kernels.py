"""Runs every Triton kernel in Triton's interpreter and prints its errors as JSON.

`TRITON_INTERPRET=1 python -m tests.models.interpreted_kernels`: the interpreter is chosen when
Triton is imported, so this is a process of its own. It knows no bfloat16.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial

import torch
import torch.nn.functional as F
from transformers import SamHQVisionConfig, SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionEncoder

from pad_pipeline.models import fp8
from pad_pipeline.models.fp8_triton import launch_add_norm, launch_scale_rows
from pad_pipeline.models.grounding_dino.deformable_attention import Levels, sample_points_with_torch
from pad_pipeline.models.grounding_dino.deformable_triton import sample_points
from pad_pipeline.models.sam.encoder import encode
from pad_pipeline.models.sam.kernel_errors import add_norm_error, attention_error

WINDOWS = {
    "windows that reach outside of the image": (2, 80, (9, 9), 7),
    "windows of an image that is not square": (1, 64, (7, 18), 5),
    "a window that is the image": (1, 96, (14, 14), 14),
    "a whole image, heads of 80": (2, 80, (16, 16), 16),
    "a whole image, heads of 64": (1, 64, (16, 16), 16),
}
DTYPES = (torch.float32, torch.float16)


def cases() -> Iterator[tuple[str, Callable[[], float]]]:
    for dtype in DTYPES:
        like, name = torch.empty(0, dtype=dtype), str(dtype).removeprefix("torch.")
        for title, shape in WINDOWS.items():
            yield f"{name}: {title}", partial(attention_error, like, *shape)
        yield f"{name}: sum and norm", partial(add_norm_error, like, 160)
        yield f"{name}: sum and norm in 8 bits", partial(add_norm_scaled_error, dtype)
        yield f"{name}: rows in 8 bits", partial(scale_rows_error, dtype, gelu=False)
        yield f"{name}: GELU in 8 bits", partial(scale_rows_error, dtype, gelu=True)
        for sides in (2, 4):
            yield f"{name}: deformable, {sides} sides", partial(deformable_error, dtype, sides)
    sam, sam_hq = (SamVisionEncoder, SamVisionConfig), (SamHQVisionEncoder, SamHQVisionConfig)
    yield "float32: encoder of SAM", partial(encoder_error, *sam, size=16, window=7)
    yield "float32: encoder of SAM-HQ", partial(encoder_error, *sam_hq, size=6, window=4)


def deformable_error(dtype: torch.dtype, sides: int) -> float:
    shapes, rows, queries, heads, points = [(5, 7), (2, 3)], 2, 33, 2, 2
    levels = Levels.of(shapes, torch.device("cpu"))
    values = torch.randn(rows, sum(h * w for h, w in shapes), heads * 24).to(dtype)
    # as the model hands them over: parts of one tensor, and a reference that is not repeated
    joined = (4 * torch.randn(rows, queries, heads * 2 * points * 3)).to(dtype)
    offsets = joined[..., : heads * 2 * points * 2].unflatten(-1, (heads, 2, points, 2))
    attention = joined[..., heads * 2 * points * 2 :].unflatten(-1, (heads, 2, points))
    reference = torch.rand(1, queries, 1, 2) if sides == 2 else torch.rand(rows, queries, 2, 4)
    found = sample_points(values, offsets, attention, reference, levels.starts, levels.sizes)
    exact = sample_points_with_torch(values.float(), offsets, attention, reference, levels)
    return float((found.float() - exact).norm() / exact.norm())


def add_norm_scaled_error(dtype: torch.dtype) -> float:
    residual, update = torch.randn(2, 6, 160).to(dtype)
    weight, bias = torch.randn(2, 160).to(dtype)
    total = torch.empty_like(residual)
    values, scales = torch.empty(6, 160), torch.empty(6, 1)
    launch_add_norm(residual, update, weight, bias, 1e-6, total, values, scales)
    exact = F.layer_norm((residual + update).float(), (160,), weight.float(), bias.float(), 1e-6)
    assert torch.equal(total, residual + update)
    return rows_error(values, scales, exact)


def scale_rows_error(dtype: torch.dtype, gelu: bool) -> float:
    x = torch.randn(6, 160).to(dtype)
    x[1] = 0
    values, scales = torch.empty(6, 160), torch.empty(6, 1)
    launch_scale_rows(x, gelu, values, scales)
    return rows_error(values, scales, F.gelu(x.float()) if gelu else x.float())


def rows_error(values: torch.Tensor, scales: torch.Tensor, exact: torch.Tensor) -> float:
    """Of values before they are rounded to 8 bits, which the interpreter does wrongly.

    Where rounding up makes one more bit it loses it: 126.5 becomes 64.
    """
    assert values.abs().max() <= 448
    torch.testing.assert_close(scales, fp8.scale_rows(exact).scales, rtol=1e-5, atol=0)
    return float((values * scales - exact).norm() / exact.norm())


def encoder_error(encoder_class: type, config_class: type, size: int, window: int) -> float:
    """Of the embedding and what SAM-HQ reads besides, against transformers' own forward."""
    config = config_class(
        hidden_size=48, num_attention_heads=1, image_size=4 * size, patch_size=4,
        window_size=window, mlp_dim=64, num_hidden_layers=3, global_attn_indexes=[1],
        output_channels=16,
    )  # fmt: skip
    config._attn_implementation = "sdpa"
    encoder = encoder_class(config).eval()
    for parameter in encoder.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    pixels = torch.randn(1, 3, 4 * size, 4 * size)
    by_transformers, ours = encoder(pixels), encode(encoder, pixels)
    pairs = [(ours.last_hidden_state, by_transformers.last_hidden_state)]
    early = getattr(by_transformers, "intermediate_embeddings", None) or []
    pairs += zip(ours.intermediate_embeddings, early, strict=True) if early else []
    return max(float((a - b).norm() / b.norm()) for a, b in pairs)


def main() -> None:
    torch.manual_seed(0)
    with torch.inference_mode():
        json.dump({title: error() for title, error in cases()}, sys.stdout)


if __name__ == "__main__":
    main()
