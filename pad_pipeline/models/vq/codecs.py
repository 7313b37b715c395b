"""The VQ models of this project, of transformers and of diffusers as codecs of one form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.models.vq.codebook import VqNetwork
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD


class NetworkCodec:
    """A network of this project."""

    def __init__(self, model: VqNetwork) -> None:
        self.model, self.factor, self.num_codes = model, model.factor, model.num_codes

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the weights."""
        self.model.to(device, dtype)

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, h, w)."""
        return self.model.nearest(self.model.encode(_centred(pixels_N3HW)))

    def pixels(self, indices_Nhw: Tensor) -> Tensor:
        """(N, 3, H, W)."""
        return _uncentred(self.model.decode(self.model.look_up(indices_Nhw)))


class LibraryCodec:
    """A VQ model of transformers or diffusers, which differ in what their methods take."""

    def __init__(self, model: Any, factor: int, num_codes: int) -> None:
        self.model, self.factor, self.num_codes = model, factor, num_codes

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the weights."""
        self.model.to(device, dtype)

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, h, w)."""
        raise NotImplementedError

    def pixels(self, indices_Nhw: Tensor) -> Tensor:
        """Most of these models have an encoder alone."""
        raise UserError(
            f"{type(self.model).__name__} has no decoder, so its indices cannot be made a picture; "
            "take a VQGAN, Janus', Emu3's or a diffusers VQModel for that"
        )


class ChameleonCodec(LibraryCodec):
    """Chameleon's VQGAN (an encoder; factor 16 and 8,192 codes as released)."""

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, h, w)."""
        return _as_grid(self.model.encode(_centred(pixels_N3HW)).image_tokens, pixels_N3HW, self)


class JanusCodec(ChameleonCodec):
    """Janus' VQGAN (factor 16 and 16,384 codes as released)."""

    def pixels(self, indices_Nhw: Tensor) -> Tensor:
        """(N, 3, H, W); its own `decode` takes grids of one size alone."""
        codes = torch.nn.functional.normalize(self.model.quantize.embedding(indices_Nhw), dim=-1)
        latents = self.model.post_quant_conv(codes.permute(0, 3, 1, 2))
        return _uncentred(self.model.decoder(latents))


class Emu3Codec(LibraryCodec):
    """Emu3's tokenizer (factor 8 and 32,768 codes as released), an image as a short video."""

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, h, w)."""
        sizes = torch.tensor([pixels_N3HW.shape[2:]] * len(pixels_N3HW))
        mean, std = _clip_statistics(pixels_N3HW)
        return torch.stack(list(self.model.encode((pixels_N3HW - mean) / std, sizes).image_tokens))

    def pixels(self, indices_Nhw: Tensor) -> Tensor:
        """(N, 3, H, W)."""
        pixels = self.model.decode(indices_Nhw)
        mean, std = _clip_statistics(pixels)
        return pixels * std + mean


class FlavaCodec(LibraryCodec):
    """FLAVA's codebook, the encoder of DALL-E's dVAE (factor 8 and 8,192 codes as released)."""

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, h, w); its processor maps 0..1 to 0.1..0.9."""
        return self.model.get_codebook_indices(pixels_N3HW * 0.8 + 0.1)


class DiffusersCodec(LibraryCodec):
    """A `VQModel` of diffusers."""

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Move the weights, part by part: its own `to` warns of every cast."""
        for part in self.model.children():
            part.to(device, dtype)

    def indices(self, pixels_N3HW: Tensor) -> Tensor:
        """(N, h, w)."""
        latents = self.model.encode(_centred(pixels_N3HW)).latents
        return _as_grid(self.model.quantize(latents)[2][2], pixels_N3HW, self)

    def pixels(self, indices_Nhw: Tensor) -> Tensor:
        """(N, 3, H, W)."""
        codes = self.model.quantize.embedding(indices_Nhw).permute(0, 3, 1, 2)
        return _uncentred(self.model.decode(codes, force_not_quantize=True).sample)


def _multiplied(config: Any) -> tuple[int, int]:
    """Factor and codebook of a config with a multiplier of channels per level."""
    factor = 2 ** (len(config.channel_multiplier) - 1)
    return factor, getattr(config, "num_embeddings", None) or config.codebook_size


def _flava(config: Any) -> tuple[int, int]:
    return 2 ** (config.num_groups - 1), config.vocab_size


TRANSFORMERS: dict[str, tuple[str, type[LibraryCodec], Callable[[Any], tuple[int, int]]]] = {
    "chameleon_vqgan": ("ChameleonVQVAE", ChameleonCodec, _multiplied),
    "janus_vqgan": ("JanusVQVAE", JanusCodec, _multiplied),
    "emu3_vqgan": ("Emu3VQVAE", Emu3Codec, _multiplied),
    "flava_image_codebook": ("FlavaImageCodebook", FlavaCodec, _flava),
}
"""Class of transformers, codec and sizes by `model_type` of config.json."""


def _centred(pixels: Tensor) -> Tensor:
    return pixels * 2 - 1


def _uncentred(pixels: Tensor) -> Tensor:
    return (pixels + 1) / 2


def _as_grid(flat: Tensor, pixels_N3HW: Tensor, codec: LibraryCodec) -> Tensor:
    number, _, height, width = pixels_N3HW.shape
    rows, columns = height // codec.factor, width // codec.factor
    assert math.prod(flat.shape) == number * rows * columns
    return flat.reshape(number, rows, columns)


def _clip_statistics(pixels: Tensor) -> tuple[Tensor, Tensor]:
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
    return mean, std
