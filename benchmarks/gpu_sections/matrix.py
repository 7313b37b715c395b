"""Matrix products: the rate that this card reaches, and the shapes of the models beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_sections.bench import Bench, NotThere, Row, Rows

SQUARE = 8192
RATE_ROW = f"{SQUARE} × {SQUARE} × {SQUARE}"
"""The product whose rate is called the card's matrix rate: on random numbers, as zeros are faster.
"""

SHAPES = {
    # rows, inner, columns
    "SAM, qkv, 16 images": (65_536, 1280, 3840),
    "SAM, qkv, padded windows": (78_400, 1280, 3840),
    "SAM, proj": (65_536, 1280, 1280),
    "SAM, lin1": (65_536, 1280, 5120),
    "SAM, lin2": (65_536, 5120, 1280),
    "Grounding DINO, fc1, 16 images": (355_552, 256, 2048),
    "RAM, Swin's third stage, 32 images": (18_432, 768, 3072),
}
TINY_DIVISOR = 64
E4M3_MAX = 448.0


def rows(bench: Bench) -> Rows:
    """The card's rate first, then each shape, plain, with an epilogue and in fp8."""
    yield RATE_ROW, partial(plain, bench, (SQUARE, SQUARE, SQUARE))
    for name, shape in SHAPES.items():
        yield name, partial(plain, bench, shape)
    for name, shape in SHAPES.items():
        if name.startswith("SAM") and "padded" not in name:
            yield f"{name}, fp8", partial(fp8, bench, shape)
    yield "SAM, lin1 with GELU in the epilogue", partial(with_gelu, bench, SHAPES["SAM, lin1"])


def matrix_tflops(bench: Bench) -> float:
    """The card's matrix rate, as this run has measured it or, where it has not, measured now."""
    for row in bench.found:
        if row["section"] == "matrix" and row.get("row") == RATE_ROW and "tflops" in row:
            return row["tflops"]
    return plain(bench, (SQUARE, SQUARE, SQUARE))["tflops"]


def plain(bench: Bench, shape: tuple[int, int, int]) -> Row:
    """x · wᵀ + bias in the runtime's type."""
    x, weight, bias = operands(bench, shape)
    return timed(bench, shape, lambda: F.linear(x, weight, bias))


def with_gelu(bench: Bench, shape: tuple[int, int, int]) -> Row:
    """The same with GELU in the product's epilogue and as an operator of its own."""
    x, weight, bias = operands(bench, shape)
    row = timed(bench, shape, lambda: torch._addmm_activation(bias, x, weight.t(), use_gelu=True))
    apart = bench.milliseconds(lambda: F.gelu(F.linear(x, weight, bias)))
    return row | {"gelu_apart_ms": round(apart, 3)}


def fp8(bench: Bench, shape: tuple[int, int, int]) -> Row:
    """Products of e4m3: a scale per row and per tensor, with and without making them."""
    if bench.on_gpu and torch.cuda.get_device_capability() < (8, 9):
        raise NotThere("fp8 products need a GPU of compute capability 8.9 or later")
    if not bench.on_gpu:
        raise NotThere("fp8 products need a GPU")
    x, weight, _ = operands(bench, shape)
    by_row, row_scale = quantize(weight, dim=1)
    by_tensor, scale = quantize(weight, dim=None)
    x_row, x_row_scale = quantize(x, dim=1)
    x_tensor, x_scale = quantize(x, dim=None)

    def multiply(x: Tensor, x_scale: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
        scale = scale.t() if scale.numel() > 1 else scale
        return torch._scaled_mm(
            x, weight.t(), scale_a=x_scale, scale_b=scale, out_dtype=torch.bfloat16
        )

    row = timed(bench, shape, lambda: multiply(x_row, x_row_scale, by_row, row_scale))
    per_tensor = bench.milliseconds(lambda: multiply(x_tensor, x_scale, by_tensor, scale))
    scaling = torch.compile(partial(quantize, dim=1)) if bench.on_gpu else quantize
    with_scaling = bench.milliseconds(lambda: multiply(*scaling(x), by_row, row_scale))
    return row | {
        "per_tensor_ms": round(per_tensor, 3),
        "with_compiled_scaling_ms": round(with_scaling, 3),
    }


def quantize(x: Tensor, dim: int | None = 1) -> tuple[Tensor, Tensor]:
    """e4m3 and the float32 scale of each row, (rows, 1), or of the whole, ()."""
    largest = x.abs().amax() if dim is None else x.abs().amax(dim, keepdim=True)
    scale = largest.float().clamp(min=1e-12) / E4M3_MAX
    return (x.float() / scale).clamp(-E4M3_MAX, E4M3_MAX).to(torch.float8_e4m3fn), scale


def operands(bench: Bench, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """x (rows, inner), weight (columns, inner) and bias (columns,), normal random numbers."""
    num_rows, inner, columns = shape_of(bench, shape)
    draw = partial(torch.randn, device=bench.device, dtype=bench.torch_dtype)
    return draw(num_rows, inner), draw(columns, inner), draw(columns)


def shape_of(bench: Bench, shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """The shape, divided for a CPU."""
    rows, inner, columns = (max(n // TINY_DIVISOR, 16) if bench.tiny else n for n in shape)
    return rows, inner, columns


def timed(bench: Bench, shape: tuple[int, int, int], call: Callable[[], Tensor]) -> Row:
    """Milliseconds of a call and TFLOP/s of its product."""
    num_rows, inner, columns = shape_of(bench, shape)
    milliseconds = bench.milliseconds(call)
    tflops = 2 * num_rows * inner * columns / milliseconds / 1e9
    return {
        "shape": [num_rows, inner, columns],
        "ms": round(milliseconds, 4),
        "tflops": round(tflops, 4 if bench.tiny else 1),
    }
