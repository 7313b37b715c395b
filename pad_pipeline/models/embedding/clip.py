"""CLIP's features: the projected class token of an image, the projected patches of its regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import CLIPVisionModelWithProjection

from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.models.device_image import upload
from pad_pipeline.models.embedding.embedder import PatchEmbedder
from pad_pipeline.models.pretrained import load_pretrained
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.resize import resize_uint8
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD

_OF_THE_TEXT = r"text_model\..*|text_projection\..*|logit_scale|.*\.position_ids"


def load_clip_embedder(reference: str | Path, runtime: Runtime) -> PatchEmbedder:
    """The embedder of a CLIP in transformers' layout, whole or its vision part with projection."""
    prepare(runtime)
    model = load_pretrained(CLIPVisionModelWithProjection, reference, computed=_OF_THE_TEXT)
    model = model.to(runtime.device, runtime.torch_dtype)
    config = model.config
    mean, std = (
        upload(np.array(values, np.float32), torch.device(runtime.device)).view(3, 1, 1)
        for values in (CLIP_MEAN, CLIP_STD)
    )

    def encode(images: Sequence[Image]) -> tuple[Tensor, Tensor]:
        side = config.image_size
        frames = [resize_uint8(image, side, side, "bicubic", runtime.device) for image in images]
        pixels = (torch.stack(frames).float() / 255 - mean) / std
        found = model(pixel_values=pixels.to(runtime.torch_dtype))
        patches = model.vision_model.post_layernorm(found.last_hidden_state[:, 1:])
        return found.image_embeds, model.visual_projection(patches)

    return PatchEmbedder(encode, config.projection_dim, config.image_size // config.patch_size)
