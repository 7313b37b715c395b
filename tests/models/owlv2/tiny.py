"""An OWLv2 of random weights at small size, as a directory in transformers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, Owlv2Config, Owlv2ForObjectDetection
from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

from pad_pipeline.models.pretrained import quiet

SIDE = 48
_SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def random_model(seed: int = 0) -> Any:
    """Weights large enough that scores and boxes differ from patch to patch and tag to tag."""
    torch.manual_seed(seed)
    text = {**_SMALL, "vocab_size": len(tokenizer()), "max_position_embeddings": 40}
    vision = {**_SMALL, "image_size": SIDE, "patch_size": 8}
    with quiet():
        config = Owlv2Config(text_config=text, vision_config=vision, projection_dim=32)
        model = Owlv2ForObjectDetection(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "vision_model" not in name:
                parameter.normal_(std=0.3)
        model.box_head.dense2.weight.normal_(std=0.5)
    return model


def tokenizer() -> CLIPTokenizer:
    """CLIP's, with a token for each byte."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["!", *letters, *(f"{one}</w>" for one in letters), "<|startoftext|>", "<|endoftext|>"]
    vocab = {word: number for number, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocab, merges=[], pad_token="!")


def processor() -> Any:
    """transformers' own processor of images."""
    return Owlv2ImageProcessorPil(size={"height": SIDE, "width": SIDE})


def write_model(directory: Path, seed: int = 0) -> Path:
    """The model, its tokenizer and its processor as a released directory has them."""
    with quiet():
        random_model(seed).save_pretrained(directory)
    tokenizer().save_pretrained(directory)
    processor().save_pretrained(directory)
    return directory
