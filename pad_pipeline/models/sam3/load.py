"""SAM 3 from hub ids and directories in transformers' layout; saving it as a directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, ImageProcessingMixin, Sam3LiteTextModel, Sam3Model

from pad_pipeline.errors import Setting, UserError, first_line
from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.models.compiling import compile_blocks
from pad_pipeline.models.pretrained import load_pretrained, read_config
from pad_pipeline.models.sam3.detector import Sam3Detector

MODEL_CLASSES = {
    "sam3": Sam3Model,
    "sam3_video": Sam3Model,  # what the released repository calls itself; the tracker is left out
    "sam3_lite_text": Sam3LiteTextModel,
}
"""By `model_type` of config.json."""


def load_sam3(
    reference: str | Path,
    runtime: Runtime,
    *,
    label_mode: str = "span",
    pad_to: str = "own",
    text_threshold: float | None = None,
    **options: Any,
) -> Sam3Detector:
    """The detector of a hub id or a directory.

    `options` go to `Sam3Detector`; those that Grounding DINO alone knows are taken and, where they
    ask for something, refused. Raises `UserError` where the device is missing, the weights or the
    tokenizer do not fit, or an option asks for what SAM 3 does not do.
    """
    del text_threshold  # of phrases alone
    for name, value, default in (("label_mode", label_mode, "span"), ("pad_to", pad_to, "own")):
        if value != default:
            raise UserError(
                Setting(f"detect.{name}", value),
                " is for Grounding DINO, and ",
                str(reference),
                " is a SAM 3; use ",
                Setting(f"detect.{name}", default),
            )
    prepare(runtime)
    model_type = read_config(reference).get("model_type")
    if model_type not in MODEL_CLASSES:
        raise UserError(
            f"{reference} is of type {model_type!r}; a SAM 3 is one of "
            f"{', '.join(sorted(MODEL_CLASSES))}"
        )
    tokenizer = load_tokenizer(reference)
    model = load_pretrained(MODEL_CLASSES[model_type], reference, attn_implementation="sdpa")
    known = int(model.config.text_config.vocab_size)
    if len(tokenizer) > known:
        raise UserError(
            f"the tokenizer of {reference} has {len(tokenizer)} tokens but the model knows "
            f"{known}; give the one that the model was trained with"
        )
    model = to_runtime(model.requires_grad_(False), runtime)
    return Sam3Detector(model, tokenizer, runtime, **{**_normalisation(reference), **options})


def to_runtime(model: Any, runtime: Runtime) -> Any:
    """The model on its device: decoder and scores in float32, all else in the runtime's dtype.

    A box's corners lose their place in half precision, and the decoder is a small part of all.
    """
    model = model.to(runtime.device)
    for part in (
        model.vision_encoder,
        model.text_encoder,
        model.text_projection,
        model.detr_encoder,
        model.mask_decoder,
    ):
        part.to(runtime.torch_dtype)
    if runtime.compile:  # the other layers see any number of pairs
        compile_blocks(model.vision_encoder.backbone.layers)
    return model


def load_tokenizer(reference: str | Path) -> Any:
    """The tokenizer beside the weights; raises `UserError` where there is none."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(reference))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _no_tokenizer(reference, first_line(error)) from error
    # without its files transformers makes one that knows no word
    if tokenizer.unk_token_id in tokenizer("a")["input_ids"][1:-1]:
        raise _no_tokenizer(reference, "it knows no words")
    return tokenizer


def _no_tokenizer(reference: str | Path, reason: str) -> UserError:
    return UserError(
        f"there is no tokenizer in {reference} ({reason}); copy tokenizer.json and "
        "tokenizer_config.json of the model's repository beside its weights"
    )


def _normalisation(reference: str | Path) -> dict[str, Any]:
    """Mean and deviation (0–1) of the model's processor; the original's where it has none."""
    try:
        settings, _ = ImageProcessingMixin.get_image_processor_dict(str(reference))
    except OSError:
        return {}
    return {
        name: tuple(settings[key])
        for name, key in (("pixel_mean", "image_mean"), ("pixel_std", "image_std"))
        if settings.get(key)
    }
