"""Loading OWLv2 from hub ids and directories in transformers' layout, strictly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, ImageProcessingMixin, Owlv2ForObjectDetection

from pad_pipeline.errors import Setting, UserError, first_line
from pad_pipeline.models.base import Runtime, prepare
from pad_pipeline.models.owlv2.detector import Owlv2Detector
from pad_pipeline.models.owlv2.preprocessing import Preprocessing
from pad_pipeline.models.pretrained import load_pretrained, read_config

COMPUTED_KEYS = r".*\.position_ids|box_bias"
"""Keys (full matches) that a directory may hold or lack, as they follow from the sizes."""


def load_owlv2(
    reference: str | Path,
    runtime: Runtime,
    *,
    box_threshold: float = 0.3,
    label_mode: str = "span",
    pad_to: str = "own",
    **options: Any,
) -> Owlv2Detector:
    """The detector of a hub id or a directory.

    The other `options` of detectors do not matter: OWLv2 has no tokens to threshold and no pairs to
    bound. Raises `UserError` where something is missing or does not fit, for labels that are
    phrases, and for padding, as there is one input size.
    """
    del options
    prepare(runtime)
    for name, value, usual in (("label_mode", label_mode, "span"), ("pad_to", pad_to, "own")):
        if value != usual:
            raise UserError(
                Setting(f"detect.{name}", value),
                f" is for Grounding DINO, and {reference} is an OWLv2: leave it out",
            )
    if Path(reference).is_file():
        raise UserError(f"{reference} is a file; an OWLv2 is a hub id or a directory")
    if read_config(reference).get("model_type") != "owlv2":
        raise UserError(f"{reference} is no OWLv2, by its config.json")
    model = load_pretrained(Owlv2ForObjectDetection, reference, computed=COMPUTED_KEYS)
    model = model.requires_grad_(False).to(runtime.device)
    vision = model.owlv2.vision_model
    vision.to(runtime.torch_dtype)
    vision.post_layernorm.float()
    settings = _preprocessing(reference, model.config.vision_config.image_size)
    tokenizer = _tokenizer(reference, model.config.text_config.vocab_size)
    return Owlv2Detector(model, tokenizer, runtime, settings, box_threshold=box_threshold)


def _tokenizer(reference: str | Path, num_tokens: int) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(reference))
        # transformers makes an empty one of a directory that has none
        if len(tokenizer) != num_tokens:
            raise ValueError(f"it has {len(tokenizer)} tokens and the model {num_tokens}")
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(
            f"no tokenizer of the model at {reference}: {first_line(error)}; give a directory with "
            "its tokenizer.json beside the weights"
        ) from error
    return tokenizer


def _preprocessing(reference: str | Path, side: int) -> Preprocessing:
    """From the model's processor; CLIP's mean and deviation where it has none."""
    try:
        found, _ = ImageProcessingMixin.get_image_processor_dict(str(reference))
    except OSError:
        return Preprocessing(side)
    stated = found.get("size", {"height": side, "width": side})
    if (stated.get("height"), stated.get("width")) != (side, side):
        raise UserError(
            f"the processor of {reference} makes images of {stated}, and the model reads squares "
            f"of {side} pixels; give the processor that belongs to the model"
        )
    given = {name: found.get(f"image_{name}") for name in ("mean", "std")}
    return Preprocessing(side, **{name: tuple(value) for name, value in given.items() if value})
