"""RAM and RAM++ against a golden folder: every tensor, and the tags of each image."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.ram.config import config_from_golden
from pad_pipeline.models.ram.network import RecognizeAnything, passes_threshold
from pad_pipeline.models.ram.state_dict import build_ram, convert_ram_checkpoint
from pad_pipeline.verify.rows import VerifyRow, compare_all, compare_decisions, read_json


def check_ram(directory: Path, tolerance: float, runtime: Runtime) -> list[VerifyRow]:
    """RAM and RAM++: every tensor from the patches to the logits, and which tags are given."""
    model = golden_ram(directory).to(runtime.device, runtime.torch_dtype)
    pixels = load_file(directory / "inputs.safetensors")["image"]
    found = golden_outputs(model, pixels.to(runtime.device, runtime.torch_dtype))
    rows = compare_all(found, load_file(directory / "expected.safetensors"), tolerance)
    names = [[model.config.tags[i] for i in row.nonzero()[:, 0]] for row in found["fired"]]
    wanted = read_json(directory / "expected.json").get("tags")
    if wanted is not None:
        rows.append(compare_decisions("tags of each image", names, wanted))
    return rows


def golden_ram(directory: Path) -> RecognizeAnything:
    """The model of a golden folder."""
    config = config_from_golden(read_json(directory / "config.json"))
    checkpoint = directory / "checkpoint.safetensors"
    state = convert_ram_checkpoint(read_checkpoint(checkpoint), config, source=str(checkpoint))
    return build_ram(config, state, source=str(checkpoint))


@torch.inference_mode()
def golden_outputs(model: RecognizeAnything, pixel_values: Tensor) -> dict[str, Tensor]:
    """Every tensor of a golden folder's `expected.safetensors` under its name there.

    Goes through the same parts as `model(pixel_values)`, in float32 for the decisions (`fired`).
    """
    config, outputs = model.config, {}
    swin = model.visual_encoder(pixel_values, output_hidden_states=True)
    outputs["swin_patch_embed"] = swin.hidden_states[0]
    for stage, hidden in enumerate(swin.hidden_states[1:]):
        outputs[f"swin_stage{stage}"] = hidden
    outputs["visual_encoder"] = model.encode_images(pixel_values)
    image_BTE = outputs["image_embeds"] = model.embed_images(pixel_values)
    if config.descriptions_per_class:
        outputs["label_embed_reweighted"] = model.reweight_labels(image_BTE)
        tags, query = model.project_labels(outputs["label_embed_reweighted"]), None
    else:
        tags, query = model.labels() or (None, None)
    outputs["label_embed_proj"] = tags
    for number, layer in enumerate(model.tagging_head):
        tags, query = layer(tags, image_BTE, query), None
        outputs[f"tagging_layer{number}"] = tags
    outputs["logits"] = model(pixel_values)
    outputs["fired"] = passes_threshold(config, outputs["logits"].float().sigmoid())
    return outputs
