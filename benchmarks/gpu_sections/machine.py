"""Versions, and which attention kernels torch has for the shapes of SAM's encoder."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from gpu_sections.bench import Bench, Row, Rows

BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}

REFUSALS = ("No available kernel", "No viable backend")
"""What torch says where no kernel that is allowed takes the shapes."""

SHAPES = {
    # batch and heads, tokens, features of queries and keys, of values, a table of terms or none
    "windows of 14 × 14 with a table": (400, 196, 80, 80, True),
    "whole image, terms folded in": (16, 4096, 208, 80, False),
    "whole image without terms": (16, 4096, 80, 80, False),
}


def rows(bench: Bench) -> Rows:
    """The versions, then a row for each kind of attention."""
    yield "versions", partial(versions, bench)
    for name, shape in SHAPES.items():
        yield f"attention: {name}", partial(kernels, bench, *shape)


def versions(bench: Bench) -> Row:
    """What torch was built for and what it found."""
    triton = version("triton") if find_spec("triton") else None
    row: Row = {"torch": torch.__version__, "triton": triton}
    if bench.on_gpu:
        gpu = torch.cuda.get_device_properties(0)
        row |= {
            "gpu": gpu.name,
            "gib": round(gpu.total_memory / 2**30, 1),
            "sm": f"{gpu.major}{gpu.minor}",
            "multiprocessors": gpu.multi_processor_count,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
        }
    return row


def kernels(bench: Bench, batch: int, tokens: int, width: int, out: int, table: bool) -> Row:
    """Milliseconds under each of torch's kernels; None where one refuses. `free` is its choice."""
    if bench.tiny:
        batch, tokens = 2, tokens // 16
    query, key, value = (
        torch.randn(1, batch, tokens, features, device=bench.device, dtype=bench.torch_dtype)
        for features in (width, width, out)
    )
    bias = (
        torch.randn(1, batch, tokens, tokens, device=bench.device, dtype=bench.torch_dtype)
        if table
        else None
    )

    def attend() -> torch.Tensor:
        return scaled_dot_product_attention(query, key, value, attn_mask=bias)

    row: Row = {"free_ms": round(bench.milliseconds(attend), 3)}
    for name, backend in BACKENDS.items():
        row[f"{name}_ms"] = milliseconds_under(bench, backend, attend)
    return row


def milliseconds_under(
    bench: Bench, backend: SDPBackend, call: Callable[[], object]
) -> float | None:
    """Of a call that may take no other of torch's attention kernels; None where this one refuses.

    torch warns of every reason for a refusal, once; none of them is news here.
    """
    with sdpa_kernel(backend), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return round(bench.milliseconds(call), 3)
        except RuntimeError as error:
            if not any(words in str(error) for words in REFUSALS):
                raise
            return None
