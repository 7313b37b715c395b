"""The three models at their released sizes with random weights, for what weights do not change.

They are built from the lists of the original checkpoints' keys and shapes by the code that a user's
checkpoint goes through; no file of gigabytes is written.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.load import build_grounding_dino, to_runtime
from pad_pipeline.models.ram.state_dict import build_ram, convert_ram_checkpoint, infer_ram_config
from pad_pipeline.models.ram.tagger import RamTagger
from pad_pipeline.models.registry import load_detector
from pad_pipeline.models.sam.load import build_sam, encoder_to_runtime, images_at_once
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.models.sam.state_dict import infer_config
from pad_pipeline.scenes.generator import KINDS

KEYS = Path(__file__).parents[1] / "tests" / "golden"
NUM_TAGS = 4585
SOURCE = "random weights"

TAGS = KINDS[:10]
"""Ten words for the detector to look for."""


def build_tagger(runtime: Runtime) -> RamTagger:
    """RAM with Swin-L at 384 pixels and 4,585 tags."""
    state = random_state("ram")
    config = infer_ram_config(state, [f"tag {index}" for index in range(NUM_TAGS)])
    state = convert_ram_checkpoint(state, config, source=SOURCE)
    return RamTagger(build_ram(config, state, source=SOURCE), runtime)


def build_detector(runtime: Runtime, max_pairs: int = 8) -> GroundingDinoDetector:
    """Grounding DINO Swin-T, which sees a 640 × 480 image at 1066 × 800 pixels.

    The tokenizer is the embedded model's, because the released one is not at hand: it knows fewer
    words, but a word of its own is one token for both.
    """
    embedded = load_detector("embedded", Runtime())
    assert isinstance(embedded, GroundingDinoDetector)
    model = build_grounding_dino(random_state("gdino_swint"), source=SOURCE)
    return GroundingDinoDetector(
        to_runtime(model, runtime), embedded.tokenizer, runtime, max_pairs=max_pairs
    )


def build_segmenter(runtime: Runtime, max_boxes: int = 64) -> SamSegmenter:
    """SAM ViT-H at 1024 pixels; placed and compiled as `load_sam` does."""
    state = random_state("sam_vit_h")
    model = build_sam(infer_config(state, source=SOURCE), state, source=SOURCE)
    model = model.requires_grad_(False).to(runtime.device)
    encoder_to_runtime(model, runtime)
    max_images = images_at_once(model, runtime)
    return SamSegmenter(model, runtime, max_images=max_images, max_boxes=max_boxes)


def random_state(name: str) -> dict[str, Tensor]:
    """A state dict of the original layout: small random matrices, norms of one, biases of zero.

    Tensors of one size hold equal numbers (the original's shared heads must), each its own memory.
    """
    listing = json.loads((KEYS / f"{name}_full_keys.json").read_text(encoding="utf-8"))
    sizes = [int(np.prod(shape)) for _, shape, *_ in listing["keys"]]
    noise = torch.randn(max(sizes), generator=torch.Generator().manual_seed(0)) * 0.02
    state = {}
    for (key, shape, dtype, *_), size in zip(listing["keys"], sizes, strict=True):
        if "float" not in dtype:
            state[key] = torch.zeros(shape, dtype=torch.int64)
        elif len(shape) > 1:
            state[key] = noise[:size].clone().view(shape)
        else:  # what has a weight of one dimension is a norm, whatever its name
            state[key] = torch.full(shape, 1.0 if key.endswith("weight") else 0.0)
    return state


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    """(height, width, 3) uint8: smooth random shapes with a little noise, as a photo has."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(128, 4, (height, width, 3))
    for cell in (120, 40, 10):
        coarse = rng.normal(0, cell / 2, (3, height // cell + 2, width // cell + 2))
        smooth = torch.nn.functional.interpolate(
            torch.from_numpy(coarse)[None], (height, width), mode="bilinear", align_corners=True
        )
        pixels += smooth[0].permute(1, 2, 0).numpy()
    return pixels.clip(0, 255).astype(np.uint8)


def four_boxes(height: int, width: int) -> np.ndarray:
    """(4, 4) float32 xyxy of different sizes, two of which overlap."""
    shares = [[0.05, 0.1, 0.4, 0.6], [0.3, 0.3, 0.7, 0.9], [0.6, 0.05, 0.95, 0.4], [0, 0, 1, 1]]
    return np.asarray(shares, np.float32) * np.array([width, height, width, height], np.float32)
