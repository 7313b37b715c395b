"""Segmenters from hub ids, directories and original SAM files; saving them as directories."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    ImageProcessingMixin,
    Sam2Model,
    Sam3TrackerModel,
    SamConfig,
    SamHQModel,
    SamModel,
)
from transformers.models.sam.modeling_sam import SamVisionLayer
from transformers.models.sam2.modeling_sam2 import Sam2MultiScaleBlock
from transformers.models.sam3.modeling_sam3 import Sam3ViTLayer
from transformers.models.sam_hq.modeling_sam_hq import SamHQVisionLayer

from pad_pipeline.errors import UserError
from pad_pipeline.models.base import Runtime, load_strictly, prepare
from pad_pipeline.models.checkpoints import read_checkpoint
from pad_pipeline.models.compiling import compile_blocks
from pad_pipeline.models.fp8 import check_fp8
from pad_pipeline.models.precision import ASKED, Quantize, check_quantize
from pad_pipeline.models.pretrained import load_pretrained, quiet, read_config
from pad_pipeline.models.sam.attention import use_fused_attention
from pad_pipeline.models.sam.encoder import quantize_encoder, use_kernels
from pad_pipeline.models.sam.mobile import MobileSam
from pad_pipeline.models.sam.mobile_state_dict import (
    infer_mobile_config,
    is_mobile_sam,
    to_mobile_sam,
)
from pad_pipeline.models.sam.segmenter import Family, SamSegmenter, family_of
from pad_pipeline.models.sam.state_dict import (
    DECODER_HEADS,
    check_original,
    config_from_golden,
    infer_config,
    to_transformers,
)
from pad_pipeline.models.sam.tiny_vit import WindowBlock
from pad_pipeline.models.sidecar import read_sidecar_config

MODEL_CLASSES = {
    "sam": SamModel,
    "sam_hq": SamHQModel,
    "mobile_sam": MobileSam,
    "sam2": Sam2Model,
    "sam2_video": Sam2Model,  # what the released SAM 2 repositories call themselves
    "sam3_tracker": Sam3TrackerModel,
    "sam3_video": Sam3TrackerModel,  # and SAM 3's, which hold its detector too
}
"""By `model_type` of config.json."""

_OF_TRACKER = {
    r"^detector_model\.vision_encoder\.backbone\.": "vision_encoder.backbone.",
    r"^tracker_neck\.": "vision_encoder.neck.",
    r"^tracker_model\.": "",
}
"""Names in SAM 3's repositories of what segments a box, and in a `Sam3TrackerModel`."""

ATTENTION_BYTES = 2**32
"""What the attention biases of one encoder pass may take; they are its largest tensors."""


def load_sam(
    reference: str | Path,
    runtime: Runtime,
    *,
    decoder_heads: int | None = None,
    attention: str = "sdpa",
    quantize: Quantize = "none",
    emulate: bool = False,
    **options: Any,
) -> SamSegmenter:
    """The segmenter of a hub id, a directory or an original SAM or MobileSAM file.

    `options` go to `SamSegmenter`; without `max_images`, what `images_at_once` gives.
    `decoder_heads` matters for original files of unusual sizes alone,
    by default those of the released ones or of a config.json beside the file (see
    `read_sidecar_config`). `quantize` is what the encoder's linear layers multiply in, and
    `emulate` does the same on any device, more slowly, to see what it changes.
    Raises `UserError` where the device is missing or the weights do not fit, naming the first keys
    that differ.
    """
    prepare(runtime)
    if not emulate:
        check_quantize(quantize, torch.device(runtime.device).type, runtime.dtype)
    if Path(reference).is_file():
        model, settings = _load_original(Path(reference), decoder_heads, attention)
    else:
        model = _load_pretrained(reference, attention)
        settings = _normalisation(reference, family_of(model))
    model = model.requires_grad_(False).to(runtime.device)
    encoder_to_runtime(model, runtime, quantize=quantize, emulate=emulate)
    options.setdefault("max_images", images_at_once(model, runtime))
    return SamSegmenter(model, runtime, **{**settings, **options})


def encoder_to_runtime(
    model: Any, runtime: Runtime, *, quantize: Quantize = "none", emulate: bool = False
) -> None:
    """The model's image encoder in the runtime's dtype, as fast as it goes there.

    Raises `UserError` where it cannot be quantized.
    """
    encoder = model.vision_encoder.to(runtime.torch_dtype)
    if quantize != "none" and not has_global_attention(model):
        kind = model.config_class.model_type
        raise UserError(ASKED, f" is for SAM and SAM-HQ, not for a segmenter of type {kind!r}")
    if has_global_attention(model):
        use_fused_attention(encoder)
        if quantize == "fp8":
            if not emulate:
                check_fp8(torch.device(runtime.device))
            quantize_encoder(encoder, emulate=emulate)
        if use_kernels(encoder):
            return  # four products and own kernels a layer: nothing is left to compile
    if isinstance(model, MobileSam):  # a third of the time on a CPU, see benchmarks/mobile_sam.py
        encoder.to(memory_format=torch.channels_last)
    if runtime.compile:
        compile_blocks(repeated_blocks(encoder))


def build_sam(
    config: SamConfig, state: Mapping[str, Tensor], *, source: str, attention: str = "sdpa"
) -> SamModel:
    """A `SamModel` of the config with the tensors of an original state dict, all of them used."""
    config._attn_implementation = attention
    return _build(SamModel, config, to_transformers(state), source)


def build_mobile_sam(
    state: Mapping[str, Tensor], *, source: str, decoder_heads: int = DECODER_HEADS
) -> MobileSam:
    """A `MobileSam` with the tensors of an original state dict, all of them used."""
    config = infer_mobile_config(state, source=source, decoder_heads=decoder_heads)
    return _build(MobileSam, config, to_mobile_sam(state), source)


def _build(model_class: Any, config: Any, state: Mapping[str, Tensor], source: str) -> Any:
    try:
        with torch.device("meta"):
            model = model_class(config)
    except ValueError as error:
        raise UserError(f"{source} has tensors of impossible shapes: {error}") from error
    load_strictly(model, {name: tensor.float() for name, tensor in state.items()}, source=source)
    model.tie_weights()
    return model.eval()


def save_sam(segmenter: SamSegmenter, directory: Path) -> None:
    """Write config.json, model.safetensors and preprocessor_config.json into `directory`.

    The segmenter must be of a float32 runtime on the CPU: the weights are written as they are.
    """
    with quiet():
        segmenter.model.save_pretrained(directory)
    (directory / "preprocessor_config.json").write_text(
        json.dumps(_processor(segmenter), indent=2) + "\n"
    )


def _processor(segmenter: SamSegmenter) -> dict[str, Any]:
    size = {"height": segmenter.size, "width": segmenter.size}
    shared = {
        "do_resize": True,
        "resample": 2,  # bilinear
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [value / 255 for value in segmenter.pixel_mean],
        "image_std": [value / 255 for value in segmenter.pixel_std],
    }
    if segmenter.family.fit == "squash":
        return {"image_processor_type": "Sam2ImageProcessor", **shared, "size": size}
    return {
        "image_processor_type": "SamImageProcessor",
        **shared,
        "size": {"longest_edge": segmenter.size},
        "do_pad": True,
        "pad_size": size,
    }


def _load_original(
    path: Path, decoder_heads: int | None, attention: str
) -> tuple[Any, dict[str, Any]]:
    """The model of an original file, and the segmenter's options in a config.json beside it."""
    state, source = read_checkpoint(path), str(path)
    if is_mobile_sam(state):
        heads = decoder_heads or DECODER_HEADS
        return build_mobile_sam(state, source=source, decoder_heads=heads), {}
    check_original(state, source=source)
    beside = read_sidecar_config(path, "sam")
    if beside is None or decoder_heads is not None:
        config = infer_config(state, source=source, decoder_heads=decoder_heads or DECODER_HEADS)
    else:
        config = config_from_golden(beside, state, source=source)
    optional = ("pixel_mean", "pixel_std", "mask_threshold")
    settings = {name: beside[name] for name in optional if name in beside} if beside else {}
    return build_sam(config, state, source=source, attention=attention), settings


def _load_pretrained(reference: str | Path, attention: str) -> Any:
    model_type = read_config(reference).get("model_type")
    if model_type not in MODEL_CLASSES:
        raise UserError(
            f"{reference} is of type {model_type!r}; a segmenter is one of "
            f"{', '.join(sorted(MODEL_CLASSES))}"
        )
    options: dict[str, Any] = {"attn_implementation": attention}
    if model_type == "sam3_video":
        options["key_mapping"] = _OF_TRACKER
    return load_pretrained(MODEL_CLASSES[model_type], reference, **options)


def _normalisation(reference: str | Path, family: Family) -> dict[str, Any]:
    """Mean and deviation (0–255) of the model's processor; the family's where it has none."""
    usual = {"pixel_mean": family.mean, "pixel_std": family.std}
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(str(reference))
    except OSError:
        return usual
    return usual | {
        name: tuple(255 * value for value in settings[key])
        for name, key in (("pixel_mean", "image_mean"), ("pixel_std", "image_std"))
        if settings.get(key)
    }


def repeated_blocks(encoder: Any) -> list[Any]:
    """The transformer's layers of an image encoder of any family."""
    kinds = (SamVisionLayer, SamHQVisionLayer, Sam2MultiScaleBlock, Sam3ViTLayer, WindowBlock)
    return [module for module in encoder.modules() if isinstance(module, kinds)]


def has_global_attention(model: Any) -> bool:
    """Whether blocks of the encoder attend over a whole image with biases, as SAM's ViT does."""
    return model.config_class.model_type in ("sam", "sam_hq")


def images_at_once(model: Any, runtime: Runtime) -> int | None:
    """Images whose biases for global attention fit `ATTENTION_BYTES` together; None: no biases."""
    if not has_global_attention(model) or runtime.device != "cpu":
        return None  # on a GPU they are folded into the features, see `attention`
    vision = model.config.vision_config
    tokens = (vision.image_size // vision.patch_size) ** 2
    per_image = vision.num_attention_heads * tokens**2 * runtime.torch_dtype.itemsize
    return max(1, ATTENTION_BYTES // per_image)
