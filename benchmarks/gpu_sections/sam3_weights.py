"""A SAM 3 of the released size with arranged random weights, as a directory.

Random weights find nothing: all queries have the same box, and their scores one value. Arranged,
in the weights, are: the places of the queries (drawn), words that are all present, scores by the
query alone, of which `PASSING` of 200 are above a half on a drawn image, and masks of smooth blobs,
`MASK_SHARE` of that image.
All words find the same things then, and suppression leaves one of each: five boxes of an image of
640 × 480 with two words on a CPU, its masks 5 % of it and 1.8 KB each. Rows say what came out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizer, Sam3Config, Sam3Model

from gpu_sections import workload
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.sam3.detector import Sam3Detector
from pad_pipeline.models.sam3.network import draw, find

PASSING, MASK_SHARE = 6, 0.05
PRESENCE = 4.0
"""A logit: the words are in the image with 0.98."""

_SMALL = {"hidden_size": 32, "num_attention_heads": 2}
_DETR = {**_SMALL, "num_layers": 2, "intermediate_size": 64}
TINY: dict[str, Any] = {
    "vision_config": {
        "backbone_config": {
            "model_type": "sam3_vit_model",
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 112,
            "window_size": 4,
            "global_attn_indexes": [1],
        },
        "fpn_hidden_size": 32,
        "backbone_feature_sizes": [[32, 32], [16, 16], [8, 8]],
    },
    "text_config": {
        "model_type": "clip_text_model",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "max_position_embeddings": 32,
    },
    "geometry_encoder_config": _DETR,
    "detr_encoder_config": _DETR,
    "detr_decoder_config": {**_DETR, "num_queries": 40},
    "mask_decoder_config": _SMALL,
}


def write_sam3(directory: Path, tiny: bool) -> None:
    """The model and a tokenizer whose tokens are bytes, for want of CLIP's merges."""
    device = "cuda" if torch.cuda.is_available() and not tiny else "cpu"
    torch.manual_seed(0)
    with torch.device(device):
        model = Sam3Model(Sam3Config(**(TINY if tiny else {}))).eval().requires_grad_(False)
    tokenizer = byte_tokenizer()
    arrange(model)
    detector = Sam3Detector(model, tokenizer, Runtime(device=device))
    [image] = workload.pixels("uniform", 1, tiny)
    lower(detector, image)
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def byte_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer without a merge."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{one}</w>" for one in letters)]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[])


def arrange(model: Any) -> None:
    """Everything but the height of the scores, see above."""
    decoder, scoring = model.detr_decoder, model.dot_product_scoring
    centres = torch.rand(len(decoder.reference_points.weight), 2) * 0.8 + 0.1
    sides = torch.rand(len(centres), 2) * 0.2 + 0.1
    decoder.reference_points.weight.copy_(torch.logit(torch.cat([centres, sides], 1)))
    decoder.query_embed.weight.normal_()
    for head in (decoder.box_head.layer3, decoder.presence_head.layer3, scoring.text_proj):
        head.weight.zero_()
        head.bias.zero_()
    decoder.presence_head.layer3.bias.fill_(PRESENCE)
    scoring.query_proj.weight.mul_(10)  # scores that differ
    scoring.text_proj.bias.fill_(1.0)
    smooth_masks(model)


def smooth_masks(model: Any) -> None:
    """Masks where half of the channels pass the others, upsampled without noise."""
    for level in model.vision_encoder.neck.fpn_layers[:2]:
        level.proj2.weight.zero_()
        level.proj2.bias.zero_()
    for convolution in model.mask_decoder.pixel_decoder.conv_layers:
        weight = convolution.weight
        weight.copy_(weight.mean((2, 3), keepdim=True).expand_as(weight))
    last = model.mask_decoder.mask_embedder.layers[-1]
    last.weight.zero_()
    last.bias.copy_(torch.tensor([-1.0, 1.0]).repeat(len(last.bias) // 2))


@torch.inference_mode()
def lower(detector: Sam3Detector, image: Any) -> None:
    """Move all scores, and all logits of masks, alike: `PASSING` and `MASK_SHARE` on this image."""
    model, row = detector.model, torch.zeros(1, dtype=torch.long)
    features, prompts = detector.embed([image]), detector.words.encode(["dog"])
    found = find(model, features, row, prompts)
    wanted = found.logits_RQ[0].sort(descending=True).values[PASSING - 1]
    scores = model.dot_product_scoring.query_proj.bias
    scores.sub_((wanted - 0.1) / len(scores) ** 0.5)
    masks = draw(model, features, row, prompts, found.encoded_RSC, found.queries_RQC[:, :1])
    level = masks.flatten().sort().values[int((1 - MASK_SHARE) * masks.numel())]
    signs = model.mask_decoder.mask_embedder.layers[-1].bias
    model.mask_decoder.instance_projection.bias.sub_(level * signs / len(signs))
