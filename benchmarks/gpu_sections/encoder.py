"""SAM's image encoder with its levers on and off: milliseconds, error and memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from transformers import SamModel

from gpu_sections import weights
from gpu_sections.bench import Bench, NotThere, Row, Rows, relative_error, rounded
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.registry import load_segmenter
from pad_pipeline.models.sam import load

BATCHES, TINY_BATCHES = (8, 16), (1,)
COMPARED_IMAGES = 2


def rows(bench: Bench) -> Rows:
    """Each way at each batch size, the ones in use first."""
    ways: dict[str, Callable[[Bench], Any]] = {
        "as the chain runs it": chosen,
        "without kernels": without_kernels,
        "transformers' own": by_transformers,
        "kernels, GELU apart": gelu_apart,
        "fp8": quantized,
    }
    exact: dict[str, Tensor] = {}
    for name, build in ways.items():
        for batch in TINY_BATCHES if bench.tiny else BATCHES:
            yield f"{name}, {batch} images", partial(measure, bench, build, batch, exact)


def measure(
    bench: Bench, build: Callable[[Bench], Any], batch: int, exact: dict[str, Tensor]
) -> Row:
    """Milliseconds per image, and how far the embedding is from float32's."""
    if "embedding" not in exact:
        exact["embedding"] = embed(full_precision(bench), draw(bench, COMPARED_IMAGES).float())
        bench.free()
    encoder = build(bench)
    pixels = draw(bench, batch)
    milliseconds = bench.milliseconds(lambda: embed(encoder, pixels))
    memory = bench.memory()
    error = relative_error(embed(encoder, draw(bench, COMPARED_IMAGES)), exact["embedding"])
    return {
        "ms_per_image": round(milliseconds / batch, 3),
        "relative_error": rounded(error),
        **memory,
    }


@torch.inference_mode()
def embed(encoder: Any, pixels_BCHW: Tensor) -> Tensor:
    """The embedding, in the encoder's type."""
    return encoder(pixels_BCHW).last_hidden_state


def draw(bench: Bench, batch: int) -> Tensor:
    """(batch, 3, side, side) normalised noise, the first images always the same."""
    generator = torch.Generator().manual_seed(0)
    side = 64 if bench.tiny else 1024
    if bench.tiny:
        side = load_segmenter(weights.path_of(bench, "segmenter"), Runtime()).size
    pixels = torch.randn(batch, 3, side, side, generator=generator)
    return pixels.to(bench.device, bench.torch_dtype)


def full_precision(bench: Bench) -> Any:
    """The encoder in float32, as the original computes."""
    return load_segmenter(
        weights.path_of(bench, "segmenter"), Runtime(bench.device)
    ).model.vision_encoder


def chosen(bench: Bench) -> Any:
    """What the chain runs."""
    segmenter = load_segmenter(weights.path_of(bench, "segmenter"), bench.runtime)
    return segmenter.model.vision_encoder


def without_kernels(bench: Bench) -> Any:
    """torch's fused attention alone."""
    with patch.object(load, "use_kernels", lambda encoder: False):
        return chosen(bench)


def by_transformers(bench: Bench) -> Any:
    """Nothing of this project."""
    model = SamModel.from_pretrained(
        weights.path_of(bench, "segmenter"), dtype=bench.torch_dtype, local_files_only=True
    )
    return model.to(bench.device).eval().vision_encoder


def gelu_apart(bench: Bench) -> Any:
    """The kernels, with GELU as an operator of its own."""
    from pad_pipeline.models.sam.encoder import encode

    encoder = chosen(bench)
    if not isinstance(encoder.forward, partial):
        raise NotThere("the encoder runs without kernels here")
    encoder.forward = partial(encode, encoder, gelu_in_epilogue=False)
    return encoder


def quantized(bench: Bench) -> Any:
    """fp8 projections, by torch's operators where there is no GPU."""
    path = weights.path_of(bench, "segmenter")
    options = {"quantize": "fp8", "emulate": not bench.on_gpu}
    return load_segmenter(path, bench.runtime, **options).model.vision_encoder
