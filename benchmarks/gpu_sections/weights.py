"""The models that all sections load, as directories: released sizes with arranged random weights.

Random weights find everything or nothing. Two things are arranged, so that what follows the models
has as much to do as on real images; both are in the weights, so that whoever loads the directories
gets the same answers. About four boxes of an image pass the detector's threshold: its last norm is
scaled by `LOGIT_SCALE` and all logits are lowered by `LOGIT_SHIFT`, which was chosen on a CPU in
float32: seven images of the mixture `web` with their own tags kept 4.4 boxes on average at 6.3
(1 to 8), 3.7 at 6.4. Masks are blobs: the decoder upsamples without noise and each mask is the
difference of its channels, less a shift; those of a 640 × 480 image covered 5 % of it and took some
1,100 bytes (459 polygons of COCO: 4 %, 326 bytes). Rows of the chain say what came out.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path
from typing import Any

import full_size_models
import torch
from torch import Tensor
from transformers import Sam2Config, Sam2Model

from gpu_sections import workload
from gpu_sections.bench import Bench, Row, Rows
from gpu_sections.sam3_weights import write_sam3
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.grounding_dino.detector import GroundingDinoDetector
from pad_pipeline.models.grounding_dino.load import (
    SEPARATOR_IDS,
    build_grounding_dino,
    load_tokenizer,
    save_grounding_dino,
)
from pad_pipeline.models.ram.load import save_ram
from pad_pipeline.models.ram.state_dict import build_ram, convert_ram_checkpoint, infer_ram_config
from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.models.sam.load import build_sam, save_sam
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.models.sam.state_dict import infer_config

LOGIT_SCALE, LOGIT_SHIFT = 0.1, 6.35
SAM_SHIFT, SAM2_SHIFT = 0.0, 2.6
SOURCE = "random weights"
NUM_TOKENS = 30522

HIERA_L: dict[str, Any] = {
    "hidden_size": 144,
    "num_attention_heads": 2,
    "blocks_per_stage": [2, 6, 36, 4],
    "embed_dim_per_stage": [144, 288, 576, 1152],
    "num_attention_heads_per_stage": [2, 4, 8, 16],
    "window_size_per_stage": [8, 4, 16, 8],
    "global_attention_blocks": [23, 33, 43],
    "window_positional_embedding_background_size": [7, 7],
}
"""SAM 2.1's largest encoder."""

TINY_HIERA: dict[str, Any] = {
    "hidden_size": 8,
    "num_attention_heads": 1,
    "image_size": [64, 64],
    "blocks_per_stage": [1, 1, 2, 1],
    "embed_dim_per_stage": [8, 16, 32, 64],
    "num_attention_heads_per_stage": [1, 1, 2, 2],
    "window_size_per_stage": [4, 2, 2, 2],
    "global_attention_blocks": [3],
}


def rows(bench: Bench) -> Rows:
    """Write each model and say how long that took."""
    for name, write in WRITERS.items():
        yield name, lambda name=name, write=write: _timed(bench, name, write)


def path_of(bench: Bench, name: str) -> Path:
    """Where a model lies: one of `WRITERS`."""
    if bench.tiny and name not in ("segmenter-fast", "detector-sam3"):
        return EMBEDDED_WEIGHTS / name
    return bench.models / name


def _timed(bench: Bench, name: str, write: Any) -> Row:
    began = time.perf_counter()
    directory = path_of(bench, name)
    if directory.is_dir():
        return {"written": False, "path": directory.name}
    # moved when it is whole, as this process may be killed at any time
    partial = directory.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    write(partial, bench.tiny)
    partial.rename(directory)
    size = sum(file.stat().st_size for file in directory.iterdir())
    return {"gb": round(size / 1e9, 2), "seconds": round(time.perf_counter() - began, 1)}


def _write_tagger(directory: Path, tiny: bool) -> None:
    state = full_size_models.random_state("ram")
    config = infer_ram_config(state, list(workload.tag_list()))
    state = convert_ram_checkpoint(state, config, source=SOURCE)
    save_ram(build_ram(config, state, source=SOURCE), directory)


def _write_detector(directory: Path, tiny: bool) -> None:
    model = build_grounding_dino(full_size_models.random_state("gdino_swint"), source=SOURCE)
    lower_logits(model)
    vocabulary = directory / "vocab.txt"
    vocabulary.write_text("\n".join(make_vocabulary()) + "\n", encoding="utf-8")
    detector = GroundingDinoDetector(model, load_tokenizer(vocabulary), Runtime())
    save_grounding_dino(detector, directory)


def _write_segmenter(directory: Path, tiny: bool) -> None:
    state = full_size_models.random_state("sam_vit_h")
    model = build_sam(infer_config(state, source=SOURCE), state, source=SOURCE)
    _save(model, directory, SAM_SHIFT)


def _write_fast_segmenter(directory: Path, tiny: bool) -> None:
    backbone = {"model_type": "sam2_hiera_det_model", **(TINY_HIERA if tiny else HIERA_L)}
    vision: dict[str, Any] = {
        "backbone_config": backbone,
        "backbone_channel_list": backbone["embed_dim_per_stage"][::-1],
    }
    sizes: dict[str, Any] = {"vision_config": vision}
    if tiny:
        vision |= {"fpn_hidden_size": 32, "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]]}
        sizes["prompt_encoder_config"] = {"hidden_size": 32, "image_size": 64}
        sizes["mask_decoder_config"] = {"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2}
    torch.manual_seed(0)
    _save(Sam2Model(Sam2Config(**sizes)).eval(), directory, SAM2_SHIFT)


WRITERS = {
    "detector": _write_detector,
    "tagger": _write_tagger,
    "segmenter": _write_segmenter,
    "segmenter-fast": _write_fast_segmenter,
    "detector-sam3": write_sam3,
}


def _save(model: Any, directory: Path, shift: float) -> None:
    with torch.no_grad():
        shape_masks(model.mask_decoder, shift)
    save_sam(SamSegmenter(model.requires_grad_(False), Runtime()), directory)


@torch.no_grad()
def lower_logits(model: Any) -> None:
    """Scale a Grounding DINO's logits and lower all of them alike, in its weights.

    The outputs of a norm have a mean of zero. A constant added to those of the text and another
    to those of the queries therefore add their product, and nothing else, to every logit.
    """
    text = model.model.encoder.layers[-1].text_enhancer_layer.layer_norm_after
    queries = model.model.decoder.layer_norm
    width = len(queries.weight)
    text.bias.fill_(1.0)
    queries.weight.fill_(LOGIT_SCALE)
    queries.bias.fill_(-LOGIT_SHIFT / width)


def shape_masks(decoder: Any, shift: float) -> None:
    """Have a SAM's mask decoder answer with blobs: where half of its channels pass the others.

    They pass them by at least `shift`, which one of the channels is, whatever the image.
    """
    for convolution in (decoder.upscale_conv1, decoder.upscale_conv2):
        weight: Tensor = convolution.weight
        # the same for all pixels of a token, and large enough to leave GELU's flat middle
        weight.copy_(10 * weight.mean((2, 3), keepdim=True).expand_as(weight))
    decoder.upscale_conv2.weight[:, 0] = 0
    decoder.upscale_conv2.bias[0] = shift
    for head in decoder.output_hypernetworks_mlps:
        head.proj_out.weight.zero_()
        half = len(head.proj_out.bias) // 2
        head.proj_out.bias.copy_(torch.tensor([-1.0, 1.0]).repeat(half))


def make_vocabulary() -> list[str]:
    """As many tokens as BERT's: its separators at their places, then every word of the tags."""
    tokens = [f"[unused{index}]" for index in range(NUM_TOKENS)]
    tokens[0], tokens[100], tokens[103], tokens[1010] = "[PAD]", "[UNK]", "[MASK]", ","
    for index, token in zip(SEPARATOR_IDS, ("[CLS]", "[SEP]", ".", "?"), strict=True):
        tokens[index] = token
    found = (re.findall(r"\w+|[^\w\s]", tag.lower()) for tag in workload.tag_list())
    words = dict.fromkeys(word for tag in found for word in tag if word not in tokens)
    tokens[2000 : 2000 + len(words)] = words
    return tokens
