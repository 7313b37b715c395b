"""A vision-language model whose image tokens are the condition of a denoiser, too.

Shapes: I images, H, W pixels, P image tokens, D width of the LLM, K width of the condition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast, get_args

import torch
from torch import Tensor, nn

from pad_pipeline.train.choices import TrainingStage, VlsaStage
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.model.vlm import Passes, VisionLanguageModel
from pad_pipeline.train.vlsa.config import TRAINED
from pad_pipeline.train.vlsa.denoiser import Denoiser


class Epigone(nn.Sequential):
    """Image tokens (I, P, D) to a denoiser's condition (I, P, K).

    Linear, GELU, Linear. VLSA's appendix names the module and says no more; this is our reading.
    """

    def __init__(self, llm_width: int, width: int, condition_width: int) -> None:
        super().__init__(nn.Linear(llm_width, width), nn.GELU(), nn.Linear(width, condition_width))


class VlsaModel(VisionLanguageModel):
    """`VisionLanguageModel` with an Epigone and a denoiser, which are for training alone."""

    def __init__(
        self,
        base: VisionLanguageModel,
        epigone: Epigone,
        denoiser: Denoiser,
        *,
        image_mean: Sequence[float],
        image_std: Sequence[float],
    ) -> None:
        """Takes the parts of `base`; mean and deviation are those of its images."""
        super().__init__(
            base.vision,
            base.projector,
            base.llm,
            compute_dtype=base.compute_dtype,
            select_layer=base.select_layer,
        )
        self.epigone = epigone
        self.denoiser = denoiser
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.reconstructs = True
        self.freeze("vlsa-1")

    def is_trained(self, name: str, stage: TrainingStage) -> bool:
        """Whether `stage` trains the parameter of that name: VLSA's Table 7.

        Never the autoencoder, nor what lies behind the tower's layer that is used.
        """
        if stage not in get_args(VlsaStage):
            return super().is_trained(name, stage)
        part = name.split(".", 1)[0]
        if part not in TRAINED[cast(VlsaStage, stage)]:
            return False
        if part == "denoiser":
            return name.startswith("denoiser.transformer.")
        return part != "vision" or self._is_used(name)

    def _is_used(self, name: str) -> bool:
        """Whether a weight of the tower takes part in what is projected."""
        layers = int(self.vision.config.num_hidden_layers)
        used = layers + 1 + self.select_layer
        behind = [f".{number}." for number in range(used, layers)]
        if "encoder.layer" in name:
            return not any(each in name for each in behind)
        return "embeddings" in name or "pre_layrnorm" in name

    def part_names(self) -> dict[str, str]:
        """What each part is, in a few words."""
        size = self.denoiser.image_size
        return {
            **super().part_names(),
            "epigone": f"MLP of width {self.epigone[0].out_features}",
            "denoiser": f"{type(self.denoiser.transformer).__name__} for images of {size} pixels",
        }

    def forward(self, batch: Batch, draw: str | None = None) -> Passes:
        """Image tokens and losses; times and noise follow from `draw` and the samples' ids."""
        passes = super().forward(batch)
        if not self.reconstructs:
            return passes
        loss = self.reconstruction_loss(batch, passes.tokens_IPD, draw or "")
        return passes._replace(reconstruction_sum=loss)

    def reconstruction_loss(self, batch: Batch, tokens_IPD: Tensor, draw: str) -> Tensor:
        """The denoiser's loss summed over the batch's images, those of `image_ids`."""
        words = [f"{draw}/{name}" for name in batch.image_ids]
        pixels_ICHW = batch.pixels_ICHW[: len(words)]
        condition_IPK = self.condition(tokens_IPD[: len(words)])
        with self._precision(next(self.denoiser.transformer.parameters())):
            return self.denoiser.loss(self.images(pixels_ICHW), condition_IPK, words)

    def condition(self, tokens_IPD: Tensor) -> Tensor:
        """The denoiser's condition (I, P, K)."""
        weight = next(self.epigone.parameters())
        with self._precision(weight):
            if self.compute_dtype is None or weight.dtype == self.compute_dtype:
                tokens_IPD = tokens_IPD.to(weight.dtype)
            return self.epigone(tokens_IPD)

    def images(self, pixels_ICHW: Tensor) -> Tensor:
        """RGB in 0-1 of the tower's normalised pixels."""
        mean, std = (
            pixels_ICHW.new_tensor(values).view(3, 1, 1)
            for values in (self.image_mean, self.image_std)
        )
        return (pixels_ICHW * std + mean).clamp(0, 1)

    @torch.no_grad()
    def reconstruct(self, pixels_ICHW: Tensor, names: Sequence[str]) -> Tensor:
        """Images (I, 3, H, W) in 0-1 that the denoiser makes of the image tokens alone."""
        condition_IPK = self.condition(self.project(self.encode(pixels_ICHW)))
        with self._precision(next(self.denoiser.transformer.parameters())):
            return self.denoiser.sample(condition_IPK, [f"picture/{name}" for name in names])
