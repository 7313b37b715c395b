"""Vision towers by their model type: how each is loaded, and where its patches stand.

Shapes: I images, S patches (grid²), V width of the tower.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD, IMAGENET_MEAN, IMAGENET_STD

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True, slots=True)
class Tower:
    """A family of vision towers."""

    config_class: Any
    model_class: Any
    layers: str
    """The encoder's list of layers."""
    class_tokens: int
    """Tokens in front of the patches."""
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    whole: str | None = None
    """The model type of a text and image model that holds such a tower."""

    @property
    def strategy(self) -> Literal["default", "full"]:
        """transformers' word for how patches are taken from all tokens."""
        return "default" if self.class_tokens else "full"


TOWERS: dict[str, Tower] = {
    "clip_vision_model": Tower(
        CLIPVisionConfig, CLIPVisionModel, "layers", 1, CLIP_MEAN, CLIP_STD, "clip"
    ),
    # SigLIP 2 of one resolution has the same type
    "siglip_vision_model": Tower(
        SiglipVisionConfig, SiglipVisionModel, "layers", 0, _HALF, _HALF, "siglip"
    ),
    "dinov2": Tower(Dinov2Config, Dinov2Model, "layer", 1, IMAGENET_MEAN, IMAGENET_STD),
}

NOT_OF_THE_TOWER = (
    "text_model.",
    "text_projection.",
    "visual_projection.",
    "logit_scale",
    "logit_bias",
)
"""Weights of a whole CLIP or SigLIP that its vision tower does without."""


def tower_of(config: Any) -> Tower:
    """The family of a tower's config."""
    return TOWERS[config.model_type]


def vision_config_of(values: dict[str, Any], reference: Any) -> Any:
    """The tower's config from the content of a config.json, also of one inside a whole model.

    Raises `UserError` where it is of no family in `TOWERS`.
    """
    model_type = values.get("model_type")
    inside = next((name for name, tower in TOWERS.items() if tower.whole == model_type), None)
    if inside is not None and model_type is not None:
        values = {**(values.get("vision_config") or {}), "model_type": inside}
        model_type = inside
    if model_type not in TOWERS:
        raise UserError(
            f"{reference} is a {model_type or 'model of an unknown type'}; the vision tower must "
            "be a CLIP, SigLIP (or SigLIP 2 of one resolution) or DINOv2, for example "
            "openai/clip-vit-large-patch14-336"
        )
    return TOWERS[model_type].config_class.from_dict(values)


def check_select_layer(config: Any, select_layer: int) -> None:
    """Raise `UserError` where the tower has no such layer."""
    if not -int(config.num_hidden_layers) <= select_layer <= -1:
        raise UserError(
            Setting("select_layer", select_layer),
            f" is no layer of the vision tower, which has {config.num_hidden_layers}: -1 is the "
            f"last, {-int(config.num_hidden_layers)} the first",
        )


def encode_patches(vision: Any, pixels_ICHW: Tensor, select_layer: int) -> Tensor:
    """(I, S, V): the output of layer `select_layer` (-1 is the last) without class tokens.

    As transformers' `hidden_states[select_layer]`; the layers behind it are not computed.
    """
    tower = tower_of(vision.config)
    hidden_ITV = vision.embeddings(pixels_ICHW)
    if hasattr(vision, "pre_layrnorm"):
        hidden_ITV = vision.pre_layrnorm(hidden_ITV)
    layers = list(getattr(vision.encoder, tower.layers))
    for layer in layers[: len(layers) + 1 + select_layer]:
        hidden_ITV = layer(hidden_ITV, attention_mask=None)
    return hidden_ITV[:, tower.class_tokens :]
