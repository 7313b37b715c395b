"""The denoiser: a frozen autoencoder, and a transformer that takes noise from its latents.

Both come from a pipeline directory in diffusers' layout, as does the schedule of the noise and what
the transformer predicts. Shapes: I images, C, H, W of images or latents, P condition tokens, K
width of the condition.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pad_pipeline.errors import UserError


class Denoiser(nn.Module):
    """Latents of images, and the transformer that denoises them given a condition."""

    def __init__(self, transformer: Any, autoencoder: Any, noise: Any) -> None:
        """A PixArtTransformer2DModel, an AutoencoderKL and a DDPMScheduler of diffusers."""
        super().__init__()
        self.transformer = transformer
        self.autoencoder = autoencoder
        self.noise = noise
        latents, channels = autoencoder.config.latent_channels, transformer.config.in_channels
        if latents != channels:
            raise UserError(
                f"the denoising transformer takes latents of {channels} channels, but its "
                f"autoencoder gives {latents}; take both from one model"
            )
        if noise.config["prediction_type"] not in ("epsilon", "v_prediction", "sample"):
            raise UserError(
                f"the denoiser's scheduler predicts {noise.config['prediction_type']!r}; it must "
                "be 'epsilon', 'v_prediction' or 'sample'"
            )
        self.train()

    @property
    def condition_width(self) -> int:
        """The width of a condition's tokens."""
        return int(self.transformer.config.caption_channels)

    @property
    def image_size(self) -> int:
        """The side in pixels of the images that are reconstructed."""
        factor = 2 ** (len(self.autoencoder.config.block_out_channels) - 1)
        return int(self.transformer.config.sample_size) * factor

    def train(self, mode: bool = True) -> Denoiser:
        """Training mode of the transformer; the autoencoder stays as it is used."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def encode(self, images_ICHW: Tensor) -> Tensor:
        """Latents (I, C, H, W), scaled to the size of the noise, of RGB images in 0-1."""
        weight = next(self.autoencoder.parameters())
        size = self.image_size
        resized_ICHW = functional.interpolate(
            images_ICHW.float(), (size, size), mode="bilinear", antialias=True, align_corners=False
        )
        pixels_ICHW = (resized_ICHW * 2 - 1).to(weight.dtype)
        latents_ICHW = self.autoencoder.encode(pixels_ICHW).latent_dist.mode().float()
        return (latents_ICHW - self._shift) * self.autoencoder.config.scaling_factor

    @torch.no_grad()
    def decode(self, latents_ICHW: Tensor) -> Tensor:
        """RGB images in 0-1 of latents."""
        weight = next(self.autoencoder.parameters())
        latents_ICHW = latents_ICHW / self.autoencoder.config.scaling_factor + self._shift
        decoded_ICHW = self.autoencoder.decode(latents_ICHW.to(weight.dtype)).sample.float()
        return (decoded_ICHW / 2 + 0.5).clamp(0, 1)

    def loss(self, images_ICHW: Tensor, condition_IPK: Tensor, draws: Sequence[str]) -> Tensor:
        """The squared error of what the transformer predicts, a mean per image, summed over images.

        `images_ICHW` are RGB in 0-1. Each image's time and noise follow from its word in `draws`
        alone, not from the batch that it is in. Without images it is 0, with gradients of exactly
        zero.
        """
        if not len(images_ICHW):
            return self._nothing(condition_IPK)
        latents_ICHW = self.encode(images_ICHW)
        times_I, added_ICHW = self._draw(latents_ICHW, draws)
        noisy_ICHW = self.noise.add_noise(latents_ICHW, added_ICHW, times_I)
        wanted_ICHW = self._wanted(latents_ICHW, added_ICHW, times_I)
        predicted_ICHW = self.predict(noisy_ICHW, condition_IPK, times_I)
        errors_I = (predicted_ICHW - wanted_ICHW).square().flatten(1).mean(1)
        return errors_I.sum()

    def predict(self, noisy_ICHW: Tensor, condition_IPK: Tensor, times_I: Tensor) -> Tensor:
        """What the transformer predicts (float32); a variance that it learnt beside is left out."""
        weight = next(self.transformer.parameters())
        extra: dict[str, Any] = {}
        if self.transformer.use_additional_conditions:
            side = noisy_ICHW.new_full((len(noisy_ICHW), 2), float(self.image_size))
            extra = {"resolution": side, "aspect_ratio": side.new_ones(len(side), 1)}
        predicted_ICHW = self.transformer(
            noisy_ICHW.to(weight.dtype),
            encoder_hidden_states=condition_IPK,
            timestep=times_I,
            added_cond_kwargs=extra or {"resolution": None, "aspect_ratio": None},
        ).sample
        return predicted_ICHW[:, : noisy_ICHW.shape[1]].float()

    @torch.no_grad()
    def sample(self, condition_IPK: Tensor, draws: Sequence[str], num_steps: int = 30) -> Tensor:
        """Images (I, 3, H, W) in 0-1, from noise in `num_steps` of DDIM, without guidance."""
        from diffusers import DDIMScheduler

        side = int(self.transformer.config.sample_size)
        channels = int(self.transformer.config.in_channels)
        empty_ICHW = condition_IPK.new_zeros(len(condition_IPK), channels, side, side).float()
        _, latents_ICHW = self._draw(empty_ICHW, draws)
        sampler: Any = DDIMScheduler.from_config(self.noise.config, clip_sample=False)
        sampler.set_timesteps(num_steps)
        for time in sampler.timesteps:
            times_I = time.to(latents_ICHW.device).expand(len(latents_ICHW))
            predicted_ICHW = self.predict(latents_ICHW, condition_IPK, times_I)
            latents_ICHW = sampler.step(predicted_ICHW, time, latents_ICHW).prev_sample
        return self.decode(latents_ICHW)

    def _nothing(self, condition_IPK: Tensor) -> Tensor:
        """0, joined to the graphs of transformer and condition, of which there is none."""
        channels = int(self.transformer.config.in_channels)
        side = int(self.transformer.config.sample_size)
        blank_1PK = condition_IPK.new_zeros(1, *condition_IPK.shape[1:])
        latents_1CHW = condition_IPK.new_zeros(1, channels, side, side)
        times_1 = torch.zeros(1, dtype=torch.long, device=condition_IPK.device)
        predicted_1CHW = self.predict(latents_1CHW, torch.cat([condition_IPK, blank_1PK]), times_1)
        return predicted_1CHW.sum() * 0

    @property
    def _shift(self) -> float:
        return float(getattr(self.autoencoder.config, "shift_factor", None) or 0.0)

    def _wanted(self, latents_ICHW: Tensor, added_ICHW: Tensor, times_I: Tensor) -> Tensor:
        kind = self.noise.config["prediction_type"]
        if kind == "v_prediction":
            return self.noise.get_velocity(latents_ICHW, added_ICHW, times_I)
        return added_ICHW if kind == "epsilon" else latents_ICHW

    def _draw(self, latents_ICHW: Tensor, draws: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Times (I,) and noise like the latents."""
        assert len(draws) == len(latents_ICHW), (len(draws), latents_ICHW.shape)
        times, noise = [], []
        for word in draws:
            seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big", signed=True)
            generator = torch.Generator().manual_seed(seed)
            steps = self.noise.config["num_train_timesteps"]
            times.append(torch.randint(steps, (), generator=generator))
            noise.append(torch.randn(latents_ICHW.shape[1:], generator=generator))
        device = latents_ICHW.device
        return torch.stack(times).to(device), torch.stack(noise).to(device)
