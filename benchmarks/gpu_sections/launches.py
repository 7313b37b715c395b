"""Kernels that a pass starts, counted on tensors without numbers as the tests count them."""

from __future__ import annotations

import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import detector_launches
import torch
from transformers import SamVisionConfig
from transformers.models.sam.modeling_sam import SamVisionEncoder

from gpu_sections.bench import Bench, NotThere, Row, Rows
from pad_pipeline.models.sam.encoder import encode

IMAGES = 8
VIT_H: dict[str, Any] = {
    "hidden_size": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 16,
    "mlp_dim": 5120,
    "global_attn_indexes": [7, 15, 23, 31],
}


def rows(bench: Bench) -> Rows:
    """The two passes that bars are about; nothing of this runs on the GPU."""
    yield "segmenter's encoder", partial(of_encoder, bench)
    yield "detector", partial(of_detector, bench)


def of_detector(bench: Bench) -> Row:
    """Of a pass of known sizes and tags, by part."""
    by_part = dict(detector_launches.count()["pass of known sizes and tags"])
    return {"launches": by_part.pop("total"), "by_part": by_part}


def of_encoder(bench: Bench) -> Row:
    """Of ViT-H by its kernels, with GELU as an operator of its own; two layers with `tiny`."""
    if find_spec("triton") is None:
        raise NotThere("the kernels need Triton, which comes with torch's CUDA build for Linux")
    sys.path.insert(0, str(Path(__file__).parents[2]))
    from tests.launches import LaunchCounter

    few = {"num_hidden_layers": 2, "global_attn_indexes": [1]} if bench.tiny else {}
    config = SamVisionConfig(**VIT_H | few)
    config._attn_implementation = "sdpa"
    with torch.device("meta"):
        encoder = SamVisionEncoder(config).eval().requires_grad_(False).to(torch.bfloat16)
    pixels = torch.empty(IMAGES, 3, 1024, 1024, device="meta", dtype=torch.bfloat16)
    with torch.no_grad(), LaunchCounter() as counter:
        encode(encoder, pixels)
    return {"launches": counter.total}
