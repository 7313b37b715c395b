"""What the tests of SAM share: loading with options, and how masks are compared."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from pad_pipeline import masks
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.protocols import Mask
from pad_pipeline.models.sam.load import load_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter

NOT_READ_BY_INFERENCE = (
    r"prompt_encoder\.point_embeddings\.[01]\.weight",
    r"prompt_encoder\.not_a_point_embed\.weight",
    r"prompt_encoder\.mask_downscaling\.\d+\.(weight|bias)",
    r"mask_decoder\.output_hypernetworks_mlps\.[1-9]\d*\.layers\.\d+\.(weight|bias)",
)
"""Original keys (full matches) that box prompts with one mask each never read.

They are point and mask prompts and the three-mask output. They are loaded all the same, so nothing
of a checkpoint is dropped.
"""


def from_folder(sam_golden: SimpleNamespace, **options: Any) -> SamSegmenter:
    return load_sam(sam_golden.folder / "checkpoint.safetensors", Runtime(), **options)


def bits(mask: Mask) -> np.ndarray:
    return masks.decode(mask.counts, mask.height, mask.width)


def differing(found: list[list[Mask]], wanted: list[list[Mask]]) -> list[float]:
    """The share of pixels in which each pair of masks differs."""
    pairs = [pair for a, b in zip(found, wanted, strict=True) for pair in zip(a, b, strict=True)]
    return [float(np.mean(bits(a) != bits(b))) for a, b in pairs]
