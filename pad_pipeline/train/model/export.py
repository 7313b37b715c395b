"""A trained model for other programs: transformers' LLaVA, or LLaVA's own mm_projector.bin."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from transformers import LlavaImageProcessorPil, LlavaNextImageProcessorPil

from pad_pipeline.errors import UserError
from pad_pipeline.geometry import CLIP_MEAN_RGB
from pad_pipeline.models.pretrained import quiet
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD
from pad_pipeline.storage.atomic import replacing
from pad_pipeline.train.choices import FrameGeometry, Template
from pad_pipeline.train.model.export_c_abstractor import write_parts
from pad_pipeline.train.model.export_llava import write_llava
from pad_pipeline.train.model.export_transformers import write_transformers
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.text.chat_template import make_chat_template
from pad_pipeline.train.tiling import Grid

ExportFormat = Literal["transformers", "llava"]


def export_run_model(
    model: VisionLanguageModel,
    tokenizer: Any,
    directory: str | Path,
    format: ExportFormat = "transformers",
    geometry: FrameGeometry = "crop",
    *,
    image_mean: Sequence[float] = CLIP_MEAN,
    image_std: Sequence[float] = CLIP_STD,
    dtype: torch.dtype | None = None,
    vision_name: str | None = None,
    template: Template = "vicuna-v1",
    llm_trained: bool = False,
    tile_grids: Sequence[Grid] = (),
) -> list[str]:
    """Write `model` into the new folder `directory`; returns lines that list what was written.

    "transformers": what `LlavaForConditionalGeneration.from_pretrained` and `AutoProcessor` load,
    with `<image>` and `<pad>` added to `tokenizer` (a copy) and rows for them to the embedding
    (means of the others). The processor crops or pads as the `geometry` of the training did, and
    normalises by `image_mean` and `image_std` (RGB, 0-1). Weights are written in `dtype`, unless
    given the language model's own. Low-rank adapters are merged into their weights, in `model`
    too. Processor and tokenizer get a chat template that writes conversations as training did:
    in the format `template` where the language model was trained on them (`llm_trained`), else
    the image with the text behind it.

    A model that sees images in tiles (`geometry` "anyres", of `tile_grids`) is written as what
    `LlavaNextForConditionalGeneration.from_pretrained` loads.

    "llava": mm_projector.bin under LLaVA's names and a config.json with the settings that go with
    it; `vision_name` is the tower's name in there. `llm_trained` adds what is then missing.

    Neither program has a C-Abstractor: its weights, its code and a note on loading are written
    instead, for "transformers" beside tower, language model and tokenizer.

    Raises `UserError` where the folder is in use or cannot be written, or the language model has
    no form in transformers' LLaVA. The folder appears whole or not at all.
    """
    if model.projector.kind == "perceiver":
        raise UserError(
            "neither transformers nor LLaVA has a model with a perceiver, so there is no export of "
            "it; `pad-pipeline evaluate` takes the run's folder as it is"
        )
    target = Path(directory).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} already exists; remove it or choose another destination")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as folder, quiet():
            folder.mkdir()
            if format == "llava":
                lines = write_llava(
                    model, folder, geometry, vision_name, llm_trained, _pixels(model, tile_grids)
                )
            else:
                if model.has_lora:
                    model.llm = model.llm.merge_and_unload()
                processor = _image_processor(
                    model, geometry, image_mean, image_std, _pixels(model, tile_grids)
                )
                stage = "finetune" if llm_trained else "pretrain"
                if model.projector.kind == "c-abstractor":
                    words = copy.deepcopy(tokenizer)
                    words.chat_template = make_chat_template(tokenizer, template, stage)
                    lines = [write_parts(model, words, processor, folder, dtype)]
                else:
                    lines = write_transformers(
                        model, tokenizer, processor, folder, dtype, template, stage
                    )
                lines += _other_border(geometry, image_mean)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the export could not be written to {target}: {error}; check the free space and the "
            "permissions"
        ) from error
    return [f"{target}: {lines[0]}", *lines[1:]]


def _image_processor(
    model: VisionLanguageModel,
    geometry: FrameGeometry,
    image_mean: Sequence[float],
    image_std: Sequence[float],
    pinpoints: list[list[int]],
) -> Any:
    size = int(cast(Any, model.vision.config).image_size)
    settings: dict[str, Any] = {
        "size": {"shortest_edge": size},
        "crop_size": {"height": size, "width": size},
        "image_mean": list(image_mean),
        "image_std": list(image_std),
    }
    if geometry == "anyres":
        return LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints, **settings)
    return LlavaImageProcessorPil(do_pad=geometry == "pad", **settings)


def _pixels(model: VisionLanguageModel, tile_grids: Sequence[Grid]) -> list[list[int]]:
    """[height, width] of each grid of tiles, as transformers writes them."""
    size = int(cast(Any, model.vision.config).image_size)
    return [[rows * size, columns * size] for rows, columns in tile_grids]


def _other_border(geometry: FrameGeometry, image_mean: Sequence[float]) -> list[str]:
    """Training pads in CLIP's mean colour, transformers in that of the processor."""
    colour = tuple(int(value * 255) for value in image_mean)
    if geometry != "pad" or colour == CLIP_MEAN_RGB:
        return []
    return [
        f"training padded in {CLIP_MEAN_RGB}, but this processor pads in its mean colour {colour}: "
        "pixels differ at the borders"
    ]
