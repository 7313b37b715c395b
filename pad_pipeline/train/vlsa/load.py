"""The model of a run after VLSA, and the weights of the stage before."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.base import load_strictly
from pad_pipeline.models.references import EMBEDDED, EMBEDDED_WEIGHTS
from pad_pipeline.train.data.vision_input import VisionInput
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.vlsa.config import VlsaConfig
from pad_pipeline.train.vlsa.denoiser_files import load_denoiser
from pad_pipeline.train.vlsa.model import Epigone, VlsaModel

DENOISER_FOLDER = "denoiser"
EPIGONE_FILE = "epigone.safetensors"
VISION_FOLDER = "vision"


def with_denoiser(
    base: VisionLanguageModel,
    config: VlsaConfig,
    image: VisionInput,
    *,
    dtype: torch.dtype = torch.float32,
) -> VlsaModel:
    """The model around `base`, on its device, with a new Epigone (torch's generator).

    Raises `UserError` where the denoiser cannot be loaded.
    """
    place = base.device
    is_embedded = config.denoiser == EMBEDDED
    reference = EMBEDDED_WEIGHTS / "denoiser" if is_embedded else config.denoiser
    loaded = load_denoiser(reference, dtype=dtype, device=place.type)
    with torch.device(place):
        epigone = Epigone(
            int(base.llm.config.hidden_size), config.epigone_width, loaded.condition_width
        )
    model = VlsaModel(base, epigone, loaded.to(place), image_mean=image.mean, image_std=image.std)
    model.reconstructs = config.reconstruction_weight > 0
    return model


def save_auxiliaries(
    model: VlsaModel, folder: Path, weights: dict[str, Tensor] | None = None
) -> None:
    """Write tower, Epigone and denoiser; `weights` are the model's, whole, where it is sharded."""
    state = weights if weights is not None else model.state_dict()
    save_file(
        {
            name: each.float().contiguous().cpu()
            for name, each in weights_below(state, "epigone.").items()
        },
        folder / EPIGONE_FILE,
    )
    model.vision.save_pretrained(folder / VISION_FOLDER, state_dict=weights_below(state, "vision."))
    denoiser = model.denoiser
    transformer = type(denoiser.transformer).from_config(denoiser.transformer.config)
    load_strictly(
        transformer, weights_below(state, "denoiser.transformer."), source="the trained model"
    )
    transformer.save_pretrained(folder / DENOISER_FOLDER / "transformer")
    autoencoder = type(denoiser.autoencoder).from_config(denoiser.autoencoder.config)
    load_strictly(
        autoencoder, weights_below(state, "denoiser.autoencoder."), source="the trained model"
    )
    autoencoder.save_pretrained(folder / DENOISER_FOLDER / "vae")
    denoiser.noise.save_pretrained(folder / DENOISER_FOLDER / "scheduler")


def check_predecessor(stage: str, init_from: str | None, other: str | None) -> None:
    """Raise `UserError` where a run of `stage` cannot begin with one of the stage `other`."""
    before = {"vlsa-2": "vlsa-1", "vlsa-3": "vlsa-2"}.get(stage)
    if before is not None and init_from is None:
        raise UserError(
            f"stage {stage[-1]} starts from the weights of stage {before[-1]}; give its run by ",
            Setting("init_from"),
        )
    if init_from is not None and other not in (stage, before):
        expected = f"stage {before[-1]} or {stage[-1]}" if before else f"stage {stage[-1]}"
        raise UserError(
            f"{init_from} is a run of {other}; a run of stage {stage[-1]} after VLSA begins with "
            f"one of {expected}"
        )


def weights_below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights of the part that a prefix names, under the names that they have in it."""
    return {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
