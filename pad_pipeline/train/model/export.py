"""A trained model for other programs: transformers' LLaVA, or LLaVA's own mm_projector.bin."""

from __future__ import annotations

import copy
import io
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaImageProcessorPil,
    LlavaProcessor,
)
from transformers.conversion_mapping import get_model_conversion_mapping

from pad_pipeline.errors import UserError
from pad_pipeline.geometry import CLIP_MEAN_RGB
from pad_pipeline.models.pretrained import quiet
from pad_pipeline.normalisation import CLIP_MEAN, CLIP_STD
from pad_pipeline.train.model.export_c_abstractor import write_parts, write_projector
from pad_pipeline.train.model.projectors import Projector, llava_state
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.text.encode import IMAGE_TOKEN, encode_caption

Format = Literal["transformers", "llava"]
Geometry = Literal["crop", "pad"]


IMAGE_WORD, PAD_WORD = "<image>", "<pad>"
ROWS_MULTIPLE = 64
"""The vocabulary is filled up to a multiple of this, as in the published conversions."""


def export_run_model(
    model: VisionLanguageModel,
    tokenizer: Any,
    directory: str | Path,
    format: Format = "transformers",
    geometry: Geometry = "crop",
    *,
    image_mean: Sequence[float] = CLIP_MEAN,
    image_std: Sequence[float] = CLIP_STD,
    dtype: torch.dtype | None = None,
    vision_name: str | None = None,
    chat_template: str | None = None,
    llm_trained: bool = False,
) -> list[str]:
    """Write `model` into the new folder `directory`; says in lines what was written.

    "transformers": what `LlavaForConditionalGeneration.from_pretrained` and `AutoProcessor` load,
    with `<image>` and `<pad>` added to `tokenizer` (a copy) and rows for them to the embedding
    (means of the others). The processor crops or pads as the `geometry` of the training did, and
    normalises by `image_mean` and `image_std` (RGB, 0-1). Weights are written in `dtype`, unless
    given the language model's own. Low-rank adapters are merged into their weights, in `model`
    too. `chat_template` goes to the processor.

    "llava": mm_projector.bin under LLaVA's names and a config.json with the settings that go with
    it; `vision_name` is the tower's name in there. `llm_trained` adds what is then missing.

    Neither program has a C-Abstractor: its weights, its code and a note on loading are written
    instead, for "transformers" beside tower, language model and tokenizer.

    Raises `UserError` where the folder is in use or cannot be written, or the language model has
    no form in transformers' LLaVA. The folder appears whole or not at all.
    """
    target = Path(directory).expanduser()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"{target} is there already; give a new folder for the export")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".export-") as name, quiet():
            folder = Path(name, "export")
            folder.mkdir()
            if format == "llava":
                lines = _llava(model, folder, geometry, vision_name, llm_trained)
            else:
                if model.has_lora:
                    model.llm = model.llm.merge_and_unload()
                processor = _image_processor(model, geometry, image_mean, image_std)
                if model.projector.kind == "c-abstractor":
                    lines = [write_parts(model, tokenizer, processor, folder, dtype)]
                else:
                    lines = _transformers(model, tokenizer, processor, folder, dtype, chat_template)
                lines += _other_border(geometry, image_mean)
            if target.exists():
                target.rmdir()
            shutil.move(folder, target)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"the export could not be written to {target}: {error}; check the free space and the "
            "permissions"
        ) from error
    return [f"{target}: {lines[0]}", *lines[1:]]


def _transformers(
    model: VisionLanguageModel,
    tokenizer: Any,
    image_processor: LlavaImageProcessorPil,
    folder: Path,
    dtype: torch.dtype | None,
    chat_template: str | None,
) -> list[str]:
    llm, vision_config = model.llm, copy.deepcopy(model.vision.config)
    head = llm.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise UserError(
            f"the output layer of {llm.config.model_type} has a bias, which transformers' LLaVA "
            "has not; export with --format llava"
        )
    original, tokenizer = tokenizer, copy.deepcopy(tokenizer)
    tokenizer.add_tokens([IMAGE_WORD], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": PAD_WORD})
    image_id, pad_id = tokenizer.convert_tokens_to_ids([IMAGE_WORD, PAD_WORD])
    rows = _rows(len(head.weight), max(image_id, pad_id) + 1)

    text = copy.deepcopy(llm.config)
    text.vocab_size = rows
    tied = bool(text.tie_word_embeddings)
    config = LlavaConfig(
        vision_config=vision_config,
        text_config=text,
        image_token_index=image_id,
        image_seq_length=model.projector.num_tokens,
        projector_hidden_act="gelu" if model.projector.kind == "mlp" else "linear",
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        multimodal_projector_bias=True,
        tie_word_embeddings=tied,
    )
    config.pad_token_id = pad_id
    with torch.device("meta"):
        exported: Any = LlavaForConditionalGeneration(config)
    state: dict[str, Tensor] = {}
    for prefix, part in (
        ("model.vision_tower.", model.vision.state_dict()),
        ("model.language_model.", llm.base_model.state_dict()),
        ("model.multi_modal_projector.", _two_layers(model.projector)),
        ("", {"lm_head.weight": head.weight}),
    ):
        state.update({prefix + name: tensor for name, tensor in part.items()})
    dtype = dtype or llm.get_input_embeddings().weight.dtype
    words = exported.model.language_model.get_input_embeddings()
    word_name = next(name for name, each in exported.named_modules() if each is words) + ".weight"
    state = {
        name: (_lengthened(tensor, rows) if name in (word_name, "lm_head.weight") else tensor)
        .detach()
        .to(dtype)
        for name, tensor in state.items()
    }
    exported.load_state_dict(state, strict=True, assign=True)
    exported.tie_weights()
    if llm.generation_config is not None:
        exported.generation_config = copy.deepcopy(llm.generation_config)
        exported.generation_config.pad_token_id = pad_id
    # Names as published (`vision_tower.vision_model.*`), which other releases and programs expect;
    # transformers 5 writes these by itself only for models that it has loaded.
    exported._weight_conversions = get_model_conversion_mapping(exported, add_legacy=False)
    exported.save_pretrained(folder)
    LlavaProcessor(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=int(cast(Any, vision_config).patch_size),
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template,
    ).save_pretrained(folder)
    lines = [
        "loads with LlavaForConditionalGeneration.from_pretrained and AutoProcessor",
        f"{IMAGE_WORD} is token {image_id}, {PAD_WORD} {pad_id}; the vocabulary has {rows} rows",
        *_prompts(tokenizer, original),
    ]
    if model.projector.kind == "linear":
        lines.append(
            "transformers' projector has two layers: the first is the trained one, the second "
            "passes everything on"
        )
    return lines


def _llava(
    model: VisionLanguageModel,
    folder: Path,
    geometry: Geometry,
    vision_name: str | None,
    llm_trained: bool,
) -> list[str]:
    projector = model.projector
    if projector.kind == "c-abstractor":
        lines = [write_projector(projector, folder)]
    else:
        state = {
            name: t.detach().float().cpu().clone() for name, t in llava_state(projector).items()
        }
        buffer = io.BytesIO()
        torch.save(state, buffer)
        (folder / "mm_projector.bin").write_bytes(buffer.getvalue())
        settings = {
            "mm_projector_type": "mlp2x_gelu" if projector.kind == "mlp" else "linear",
            "mm_hidden_size": projector.vision_width,
            "hidden_size": projector.llm_width,
            "mm_vision_tower": vision_name or model.vision.name_or_path or None,
            "mm_vision_select_layer": -2,
            "mm_vision_select_feature": "patch",
            "mm_use_im_start_end": False,
            "mm_use_im_patch_token": False,
            "image_aspect_ratio": "pad" if geometry == "pad" else "square",
        }
        (folder / "config.json").write_text(json.dumps(settings, indent=1) + "\n", "utf-8")
        lines = ["mm_projector.bin for LLaVA (--pretrain_mm_mlp_adapter), its settings beside it"]
    if llm_trained:
        lines.append(
            "the language model was trained too and is not in here: export with --format "
            "transformers to take it along"
        )
    return lines


def _image_processor(
    model: VisionLanguageModel,
    geometry: Geometry,
    image_mean: Sequence[float],
    image_std: Sequence[float],
) -> LlavaImageProcessorPil:
    size = int(cast(Any, model.vision.config).image_size)
    return LlavaImageProcessorPil(
        do_pad=geometry == "pad",
        size={"shortest_edge": size},
        crop_size={"height": size, "width": size},
        image_mean=list(image_mean),
        image_std=list(image_std),
    )


def _prompts(tokenizer: Any, original: Any) -> list[str]:
    """How to write a prompt so that its ids are those of the training.

    Training encodes the text after an image by itself; transformers takes the word after a special
    token for the rest of a word or for a new one, by the tokenizer.
    """
    try:
        wanted = encode_caption(original, "a cup").input_ids
    except UserError:  # without a beginning-of-text token; it was not trained with captions then
        return []
    image_id = tokenizer.convert_tokens_to_ids(IMAGE_WORD)
    for prompt in (f"{IMAGE_WORD}a cup", f"{IMAGE_WORD} a cup"):
        ids = tokenizer(prompt + "\n")["input_ids"]
        if [IMAGE_TOKEN if each == image_id else each for each in ids] == wanted:
            return [f"write prompts as in '{prompt}': these are the ids of the training"]
    return ["transformers' ids of the text after an image differ from those of the training"]


def _other_border(geometry: Geometry, image_mean: Sequence[float]) -> list[str]:
    """Training pads in CLIP's mean colour, transformers in that of the processor."""
    colour = tuple(int(value * 255) for value in image_mean)
    if geometry == "crop" or colour == CLIP_MEAN_RGB:
        return []
    return [
        f"training padded in {CLIP_MEAN_RGB}, but this processor pads in its mean colour {colour}: "
        "pixels differ at the borders"
    ]


def _two_layers(projector: Projector) -> dict[str, Tensor]:
    """The projector as transformers' linear_1, activation, linear_2."""
    network: Any = projector.network
    if projector.kind == "mlp":
        first, second = network[0], network[2]
    else:
        first = network
        second = nn.Linear(projector.llm_width, projector.llm_width)
        with torch.no_grad():
            second.weight.copy_(torch.eye(projector.llm_width))
            second.bias.zero_()
    return {
        f"{name}.{key}": tensor
        for name, layer in (("linear_1", first), ("linear_2", second))
        for key, tensor in layer.state_dict().items()
    }


def _rows(present: int, needed: int) -> int:
    """Rows of the vocabulary; more than there are only where needed."""
    if needed <= present:
        return present
    return -(-needed // ROWS_MULTIPLE) * ROWS_MULTIPLE


def _lengthened(weight_WD: Tensor, rows: int) -> Tensor:
    """The embedding with as many rows, new ones the mean of the others."""
    missing = rows - len(weight_WD)
    if not missing:
        return weight_WD
    mean_D = weight_WD.detach().float().mean(0).to(weight_WD.dtype)
    return torch.cat([weight_WD.detach(), mean_D.expand(missing, -1)])
