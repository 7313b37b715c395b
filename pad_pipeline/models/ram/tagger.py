"""The tagger: images in, tags out, with RAM or RAM++ from a self-contained model directory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.ram.config import (
    RamConfig,
    config_from_golden,
    config_to_json,
    read_config,
    read_tags,
    read_thresholds,
)
from pad_pipeline.models.ram.network import RecognizeAnything, fired, golden_outputs
from pad_pipeline.models.ram.state_dict import (
    UNUSED_KEYS,
    build_ram,
    convert_ram_checkpoint,
    infer_ram_config,
    load_ram_checkpoint,
)
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.records import Tag
from pad_pipeline.storage.atomic import write_local

__all__ = [
    "UNUSED_KEYS",
    "RamConfig",
    "RamTagger",
    "RecognizeAnything",
    "build_ram",
    "config_from_golden",
    "convert_ram_checkpoint",
    "golden_outputs",
    "infer_ram_config",
    "load_ram",
    "load_ram_checkpoint",
    "preprocess",
    "read_tags",
    "read_thresholds",
    "save_ram",
]


class RamTagger:
    """Tags images of any size; a `pad_pipeline.models.protocols.Tagger`."""

    def __init__(self, model: RecognizeAnything, runtime: Runtime | None = None) -> None:
        """Moves `model` to the runtime's device and type."""
        self.runtime = runtime or Runtime()
        prepare(self.runtime)
        self.model = model.to(self.runtime.device, self.runtime.torch_dtype).eval()
        self._classify = torch.compile(model.classify) if self.runtime.compile else model.classify

    def tag(self, images: Sequence[Image]) -> list[list[Tag]]:
        """The tags of each image, in the order of the tag list; one pass of the model."""
        if not images:
            return []
        names = self.model.config.tags
        scores_BC = self._score(images)
        fired_BC = fired(self.model.config, scores_BC).cpu().numpy()
        return [
            [Tag(names[i], float(row[i])) for i in fires.nonzero()[0]]
            for row, fires in zip(scores_BC.cpu().numpy(), fired_BC, strict=True)
        ]

    def score(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The probability of every tag in each image, (len(images), number of tags)."""
        if not images:
            return np.zeros((0, len(self.model.config.tags)), np.float32)
        return self._score(images).cpu().numpy()

    @torch.inference_mode()
    def _score(self, images: Sequence[Image]) -> Tensor:
        pixels = preprocess(images, self.model.config, self.runtime.device)
        logits = self._classify(pixels.to(self.runtime.torch_dtype), self.model.labels())
        return logits.float().sigmoid()


def preprocess(images: Sequence[Image], config: RamConfig, device: str = "cpu") -> Tensor:
    """Images squashed to the model's size and normalised: float32 (B, 3, size, size)."""
    size = config.image_size
    resized = [resize_uint8(image, size, size, config.resize_filter, device) for image in images]
    mean, std = (
        torch.tensor(values, device=device).view(3, 1, 1)
        for values in (config.pixel_mean, config.pixel_std)
    )
    return (torch.stack(resized).float() / 255 - mean) / std


def save_ram(model: RecognizeAnything, directory: str | Path) -> None:
    """Write `model` as a directory that `load_ram` reads, weights in the type that they have."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    # clones: query, key and value of a converted checkpoint are views of one tensor
    state = {name: tensor.cpu().clone() for name, tensor in model.state_dict().items()}
    config = json.dumps(config_to_json(model.config), indent=1, ensure_ascii=False) + "\n"
    weights_file, config_file = directory / "model.safetensors", directory / "config.json"
    # The configuration comes last and is moved into place, so that what has one is whole.
    config_file.unlink(missing_ok=True)
    save_file(state, weights_file, metadata={"format": "pt"})
    write_local(config_file, config.encode())


def load_ram(directory: str | Path, runtime: Runtime | None = None) -> RamTagger:
    """The tagger of a directory that `save_ram` wrote; raises `UserError` where it is not one."""
    runtime = runtime or Runtime()
    prepare(runtime)
    weights = Path(directory) / "model.safetensors"
    config = read_config(Path(directory))
    state = read_checkpoint(weights)
    model = build_ram(config, state, source=str(weights), dtype=runtime.torch_dtype)
    return RamTagger(model, runtime)
