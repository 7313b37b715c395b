"""The settings of the three stages after VLSA, with the rates of its Table 7."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from annotated_types import Ge

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.limits import AtLeastOne, NotNegative
from pad_pipeline.train.choices import ProjectorKind, VlsaStage
from pad_pipeline.train.run.config import TrainConfig

TRAINED: dict[VlsaStage, tuple[str, ...]] = {
    "vlsa-1": ("projector", "epigone"),
    "vlsa-2": ("projector", "epigone", "denoiser", "vision"),
    "vlsa-3": ("projector", "epigone", "denoiser", "vision", "llm"),
}
"""The parts that a stage trains (VLSA, Table 7 and appendix A.2, which agree)."""


@dataclass(frozen=True, kw_only=True)
class VlsaConfig(TrainConfig):
    """One of the three stages after VLSA."""

    denoiser: str
    """Latent diffusion model with a PixArt transformer, in diffusers' layout (transformer, vae,
    scheduler): hub id, directory, or `embedded`."""
    projector_kind: ProjectorKind = "perceiver"
    """What stands between tower and language model."""
    image_tokens: AtLeastOne = 576
    """Tokens per image, a square number."""
    patch_weight: Annotated[float, Ge(0)] = 0.0
    """Beta of the patch loss, which VLSA does not have."""
    epigone_width: AtLeastOne = 256
    """Width inside the Epigone, the MLP from image tokens to the denoiser's condition."""
    reconstruction_weight: Annotated[float, Ge(0)] = 1.0
    """Weight of the reconstruction loss beside the language model's; 0 leaves it out."""
    denoiser_learning_rate: Annotated[float, Ge(0)] = 1e-3
    """Peak learning rate of the denoising transformer."""
    vision_learning_rate: Annotated[float, Ge(0)] = 2e-6
    """Peak learning rate of the vision tower."""
    llm_learning_rate: Annotated[float, Ge(0)] = 1e-5
    """Peak learning rate of the language model."""
    num_pictures: NotNegative = 8
    """Held-out images that are reconstructed at the end, as reconstructions.png."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work, before anything is loaded."""
        super().__post_init__()
        if self.geometry == "anyres":
            raise UserError(
                Setting("geometry", "anyres"),
                " gives images of different numbers of tokens, but the denoiser's condition has "
                "one number; use ",
                Setting("geometry", "pad"),
            )

    def peak_learning_rate(self, part: str) -> float:
        """The peak learning rate of a part of the model."""
        named = {
            "denoiser": self.denoiser_learning_rate,
            "vision": self.vision_learning_rate,
            "llm": self.llm_learning_rate,
        }
        return named.get(part, self.learning_rate)

    @property
    def image_loss_weight(self) -> float:
        """The weight of the reconstruction loss."""
        return self.reconstruction_weight


def _paper_1() -> VlsaConfig:
    """Stage 1 on captions, batch 256 (VLSA, Table 7)."""
    return VlsaConfig(
        vision="openai/clip-vit-large-patch14-336",
        llm="lmsys/vicuna-7b-v1.5",
        denoiser="PixArt-alpha/PixArt-XL-2-512x512",
        activation_checkpointing=True,
    )


def _paper_2() -> VlsaConfig:
    """Stage 2 on conversations about text in images, batch 64."""
    return dataclasses.replace(
        _paper_1(), geometry="pad", global_batch=64, micro_batch=4, sampler="grouped"
    )


def _paper_3() -> VlsaConfig:
    """Stage 3, all parameters, batch 32."""
    return dataclasses.replace(
        _paper_2(), global_batch=32, learning_rate=1e-5, denoiser_learning_rate=1e-5
    )


def _demo_1() -> VlsaConfig:
    """Stage 1 of the embedded small models on scenes of `pad-pipeline demo`."""
    return VlsaConfig(
        vision="embedded",
        llm="embedded",
        denoiser="embedded",
        image_tokens=64,
        max_length=512,
        global_batch=32,
        micro_batch=16,
        epochs=10,
        learning_rate=2e-3,
        num_validation=16,
        validate_every=20,
        checkpoint_every=20,
        loader_threads=2,
    )


def _demo_2() -> VlsaConfig:
    """Stage 2 of the embedded small models."""
    return dataclasses.replace(_demo_1(), geometry="pad", epochs=6, sampler="grouped")


def _demo_3() -> VlsaConfig:
    """Stage 3 of the embedded small models; the language model is small and learns faster."""
    return dataclasses.replace(
        _demo_2(), learning_rate=5e-4, denoiser_learning_rate=5e-4, llm_learning_rate=5e-4
    )


PRESETS: dict[VlsaStage, dict[str, Callable[[], VlsaConfig]]] = {
    "vlsa-1": {"paper": _paper_1, "demo": _demo_1},
    "vlsa-2": {"paper": _paper_2, "demo": _demo_2},
    "vlsa-3": {"paper": _paper_3, "demo": _demo_3},
}
