"""The tagger: images in, tags out, with RAM or RAM++."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.models.swin.modeling_swin import SwinLayer

from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.models.compiling import compile_blocks
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.ram.config import RamConfig
from pad_pipeline.models.ram.network import RecognizeAnything, passes_threshold
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.records import Tag


class RamTagger:
    """Tags images of any size; a `pad_pipeline.models.protocols.Tagger`."""

    def __init__(self, model: RecognizeAnything, runtime: Runtime | None = None) -> None:
        """Moves `model` to the runtime's device and type."""
        self.runtime = runtime or Runtime()
        prepare(self.runtime)
        self.model = model.to(self.runtime.device, self.runtime.torch_dtype).eval()
        # Made now and not by the first call: threads with streams of their own share them.
        with torch.inference_mode():
            self.model.labels()
            self.model.swin()
        if self.runtime.compile:
            swin, self.model.by_modules = self.model.visual_encoder, True
            compile_blocks(part for part in swin.modules() if isinstance(part, SwinLayer))

    def tag(self, images: Sequence[Image]) -> list[list[Tag]]:
        """The tags of each image, in the order of the tag list; one pass of the model."""
        if not images:
            return []
        names = self.model.config.tags
        scores_BC = self._score(images).cpu()
        passes_BC = passes_threshold(self.model.config, scores_BC).numpy()
        return [
            [Tag(names[i], float(row[i])) for i in passes.nonzero()[0]]
            for row, passes in zip(scores_BC.numpy(), passes_BC, strict=True)
        ]

    def score(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """The probability of every tag in each image, (len(images), number of tags)."""
        if not images:
            return np.zeros((0, len(self.model.config.tags)), np.float32)
        return self._score(images).cpu().numpy()

    @torch.inference_mode()
    def _score(self, images: Sequence[Image]) -> Tensor:
        pixels = preprocess(images, self.model.config, self.runtime.device)
        logits = self.model.classify(pixels.to(self.runtime.torch_dtype), self.model.labels())
        return logits.float().sigmoid()


def preprocess(images: Sequence[Image], config: RamConfig, device: str = "cpu") -> Tensor:
    """Images squashed to the model's size and normalised: float32 (B, 3, size, size)."""
    size = config.image_size
    resized = [resize_uint8(image, size, size, config.resize_filter, device) for image in images]
    mean, std = (
        upload(np.array(values, np.float32), torch.device(device)).view(3, 1, 1)
        for values in (config.pixel_mean, config.pixel_std)
    )
    return (torch.stack(resized).float() / 255 - mean) / std
