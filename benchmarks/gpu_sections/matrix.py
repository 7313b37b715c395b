"""Matrix products: the rate that this card reaches, and the shapes of the models beside it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from gpu_sections.bench import Bench, NotThere, Row, Rows
from pad_pipeline.models.fp8 import CAPABILITY, FORMAT, LARGEST, ScaledRows, scale_rows

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
    if not bench.on_gpu or torch.cuda.get_device_capability() < CAPABILITY:
        raise NotThere("fp8 products need a GPU of compute capability 8.9 or later")
    from pad_pipeline.models import fp8_triton

    x, weight, _ = operands(bench, shape)
    rows_of_weight, rows_of_x = scale_rows(weight), scale_rows(x)
    whole_weight, whole_x = scale_whole(weight), scale_whole(x)

    def multiply(x: ScaledRows, weight: ScaledRows) -> Tensor:
        return torch._scaled_mm(
            x.values,
            weight.values.t(),
            x.scales,
            weight.scales.t(),
            out_dtype=bench.torch_dtype,
            use_fast_accum=True,
        )

    def scale_and_multiply() -> Tensor:
        return multiply(ScaledRows(*fp8_triton.scale_rows(x, False)), rows_of_weight)

    row = timed(bench, shape, lambda: multiply(rows_of_x, rows_of_weight))
    per_tensor = bench.milliseconds(lambda: multiply(whole_x, whole_weight))
    with_scaling = bench.milliseconds(scale_and_multiply)
    return row | {
        "per_tensor_ms": round(per_tensor, 3),
        "with_scaling_ms": round(with_scaling, 3),
    }


def scale_whole(x: Tensor) -> ScaledRows:
    """`x` in 8 bits with one scale for all of it."""
    scale = x.abs().amax().float() / LARGEST
    return ScaledRows((x.float() / scale).clamp(-LARGEST, LARGEST).to(FORMAT), scale)


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
