"""Attention of SAM's encoder for eight images: torch's ways and every setting of the kernels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from gpu_sections.bench import Bench, NotThere, Row, Rows, relative_error, rounded
from pad_pipeline.models.sam.attention import (
    attend_folded,
    attend_in_windows,
    attend_with_bias,
    distances,
    one_hot_places,
    position_terms,
)

IMAGES, GRID, WINDOW = 8, 64, 14
HEADS, FEATURES = 16, 80
"""ViT-H's."""


def rows(bench: Bench) -> Rows:
    """Windows, then whole images: torch's ways, then the settings that compile everywhere."""
    yield "windows, torch with a table", partial(windows_by_torch, bench)
    yield from ((name, partial(kernel, bench, name)) for name in settings("windows"))
    yield "whole images, torch folded", partial(images_by_torch, bench, folded=True)
    yield from ((name, partial(kernel, bench, name)) for name in settings("whole images"))
    yield "whole images, torch with a table", partial(images_by_torch, bench, folded=False)


def settings(kind: str) -> dict[str, Any]:
    """The candidates of a kernel by the name of their rows; none without Triton."""
    try:
        from pad_pipeline.models.sam.attention_ops import IMAGES as of_images
        from pad_pipeline.models.sam.attention_ops import WINDOWS as of_windows
    except ImportError:
        return {}
    launches = {"windows": of_windows, "whole images": of_images}[kind]
    return {
        f"{kind}, kernel of {launch.queries} × {launch.keys}, {launch.warps} warps, "
        f"{launch.stages} stages": launch
        for launch in launches
    }


def draw(bench: Bench, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the projection gives, (B, H, W, 3, heads, features), its bias, the two tables."""
    images, grid, heads = (1, 16, 2) if bench.tiny else (IMAGES, GRID, HEADS)
    make = partial(torch.randn, device=bench.device, dtype=bench.torch_dtype)
    tables = [0.3 * make(2 * side - 1, FEATURES) for _ in range(2)]
    return make(images, grid, grid, 3, heads, FEATURES), make(3 * heads * FEATURES), *tables


def windows_by_torch(bench: Bench) -> Row:
    """Padding, cutting into windows, the table of terms, attention, and putting back."""
    given = draw(bench, WINDOW)
    return {
        "ms": round(bench.milliseconds(lambda: attend_in_windows(*given, WINDOW)), 3),
        "relative_error": error_of(attend_in_windows(*given, WINDOW), given, WINDOW),
    }


def images_by_torch(bench: Bench, folded: bool) -> Row:
    """The terms and attention among all tokens of an image."""
    qkv, _, to_rows, to_columns = given = draw(bench, side := 16 if bench.tiny else GRID)
    query, key, value = qkv.flatten(1, 2).permute(2, 0, 3, 1, 4)
    between, places = distances(side, qkv), one_hot_places(side, side, qkv)

    def attend() -> Tensor:
        terms = position_terms(query, to_rows[between], to_columns[between])
        if folded:
            read = attend_folded(query, key, value, *terms, places)
        else:
            read = attend_with_bias(query, key, value, *terms)
        return read.transpose(1, 2).reshape(*qkv.shape[:3], -1)

    milliseconds = bench.milliseconds(attend)
    return {"ms": round(milliseconds, 3), "relative_error": error_of(attend(), given, side)}


def kernel(bench: Bench, name: str) -> Row:
    """One setting: milliseconds without the terms, which all share, and with them."""
    if not bench.on_gpu:
        raise NotThere("the kernels need a GPU; tests interpret them on a CPU")
    from pad_pipeline.models.sam import attention_ops

    whole = name.startswith("whole")
    launch = settings("whole images" if whole else "windows")[name]
    side = GRID if whole else WINDOW
    qkv, bias, to_rows, to_columns = given = draw(bench, side)
    terms = attention_ops.position_terms(qkv, to_rows, to_columns, side)

    def attend() -> Tensor:
        if whole:
            return attention_ops.launch_images(qkv, terms, launch)
        return attention_ops.launch_windows(qkv, bias, terms, side, launch)

    milliseconds = bench.milliseconds(attend)
    making = bench.milliseconds(
        lambda: attention_ops.position_terms(qkv, to_rows, to_columns, side)
    )
    return {
        "ms": round(milliseconds + making, 3),
        "terms_ms": round(making, 3),
        "relative_error": error_of(attend(), given, side),
    }


def error_of(found: Tensor, given: tuple[Tensor, Tensor, Tensor, Tensor], side: int) -> float:
    """‖found − float32‖ / ‖float32‖ of the first image and the last head, on the same numbers."""
    qkv, bias, to_rows, to_columns = given
    heads = qkv.shape[4]
    exact = attend_in_windows(
        qkv[:1, ..., -1:, :].float(),
        bias.view(3, heads, FEATURES)[:, -1:].float().flatten(),
        to_rows.float(),
        to_columns.float(),
        side,
    )
    return rounded(relative_error(found[:1, ..., -FEATURES:], exact))
