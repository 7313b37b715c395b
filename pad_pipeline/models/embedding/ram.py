"""RAM's features: its image tokens in the space of the tags' own embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.embedding.embedder import PatchEmbedder
from pad_pipeline.models.protocols import Image
from pad_pipeline.models.ram.load import load_ram
from pad_pipeline.models.ram.tagger import preprocess


def load_ram_embedder(directory: str | Path, runtime: Runtime) -> PatchEmbedder:
    """The embedder of a tagger's directory; RAM was taught CLIP's image features in this space."""
    model = load_ram(directory, runtime).model
    config = model.config

    def encode(images: Sequence[Image]) -> tuple[Tensor, Tensor]:
        pixels = preprocess(images, config, runtime.device)
        tokens = model.embed_images(pixels.to(runtime.torch_dtype))
        return tokens[:, 0], tokens[:, 1:]

    return PatchEmbedder(encode, config.image_proj_dim, config.image_size // config.smallest_image)
