"""MobileSAM: SAM's prompt encoder and mask decoder behind a TinyViT."""

from __future__ import annotations

from typing import Any

from huggingface_hub.dataclasses import strict
from transformers import SamConfig, SamModel
from transformers.models.sam.configuration_sam import SamMaskDecoderConfig, SamPromptEncoderConfig
from transformers.models.sam.modeling_sam import (
    SamMaskDecoder,
    SamPositionalEmbedding,
    SamPreTrainedModel,
    SamPromptEncoder,
)

from pad_pipeline.models.sam.tiny_vit import TinyVit, TinyVitConfig


@strict
class MobileSamConfig(SamConfig):
    """SAM's, with the sizes of a TinyViT for the vision encoder."""

    model_type = "mobile_sam"
    sub_configs_defaults = {  # noqa: RUF012, which transformers reads from the class
        "prompt_encoder_config": SamPromptEncoderConfig,
        "mask_decoder_config": SamMaskDecoderConfig,
        "vision_config": TinyVitConfig,
    }


class MobileSam(SamModel):
    """transformers' `SamModel` with another vision encoder; so are its directories."""

    config_class = MobileSamConfig

    def __init__(self, config: MobileSamConfig) -> None:
        SamPreTrainedModel.__init__(self, config)  # SamModel's own would build its ViT
        sizes: Any = config
        self.shared_image_embedding = SamPositionalEmbedding(sizes.vision_config)
        self.vision_encoder = TinyVit(sizes.vision_config)
        self.prompt_encoder = SamPromptEncoder(config)
        sizes.mask_decoder_config._attn_implementation = config._attn_implementation
        self.mask_decoder = SamMaskDecoder(sizes.mask_decoder_config)
        self.post_init()
