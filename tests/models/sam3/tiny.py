"""A SAM 3 of random weights at small size, as a directory in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import pre_tokenizers
from transformers import (
    CLIPTokenizer,
    Sam3Config,
    Sam3LiteTextConfig,
    Sam3LiteTextModel,
    Sam3Model,
)
from transformers.utils import logging

Kind = Literal["sam3", "sam3_lite_text"]

VIT = {
    "model_type": "sam3_vit_model",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 56,
    "window_size": 2,
    "global_attn_indexes": [1],
    "pretrain_image_size": 28,
}
SMALL = {"hidden_size": 32, "num_attention_heads": 2}
DETR = {**SMALL, "num_layers": 2, "intermediate_size": 64}
TEXT = {"hidden_size": 24, "intermediate_size": 48, "num_attention_heads": 2}
NUM_TOKENS = 600


def config_of(kind: Kind) -> Any:
    """Its configuration."""
    shared: dict[str, Any] = {
        "vision_config": {
            "model_type": "sam3_vision_model",
            "backbone_config": VIT,
            "fpn_hidden_size": 32,
            "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        },
        "geometry_encoder_config": {**DETR, "roi_size": 2},
        "detr_encoder_config": DETR,
        "detr_decoder_config": {**DETR, "num_queries": 6},
        "mask_decoder_config": SMALL,
    }
    text = {**TEXT, "vocab_size": NUM_TOKENS, "max_position_embeddings": 32}
    if kind == "sam3_lite_text":
        return Sam3LiteTextConfig(
            text_config={**text, "num_hidden_layers": 3, "projection_dim": 24}, **shared
        )
    clip = {"model_type": "clip_text_model", "num_hidden_layers": 2, "projection_dim": 16}
    ids = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    return Sam3Config(text_config={**text, **clip, **ids}, **shared)


def random_model(kind: Kind = "sam3", seed: int = 0) -> Any:
    """Weights ten times those of a new model, so that scores, boxes and masks differ."""
    torch.manual_seed(seed)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    model = {"sam3": Sam3Model, "sam3_lite_text": Sam3LiteTextModel}[kind](config_of(kind)).eval()
    logging.set_verbosity(verbosity)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "vision_encoder" not in name:
                parameter.mul_(6)
        for layer in (model.detr_decoder.presence_head, model.dot_product_scoring.text_proj):
            last = getattr(layer, "layer3", layer)
            last.bias.add_(2)
    return model


def tokenizer() -> CLIPTokenizer:
    """CLIP's, with a token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])


def write_model(directory: Path, kind: Kind = "sam3", seed: int = 0) -> Path:
    """The model and its tokenizer as `from_pretrained` takes them; the directory."""
    random_model(kind, seed).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    return directory
