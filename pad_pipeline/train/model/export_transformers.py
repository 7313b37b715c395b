"""A trained model as transformers' LLaVA: weights, config, processor and tokenizer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import (
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaProcessor,
)
from transformers.conversion_mapping import get_model_conversion_mapping

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.train.choices import Template, TrainingStage
from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX
from pad_pipeline.train.model.projectors import Projector
from pad_pipeline.train.model.towers import tower_of
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.text.chat_template import find_chat_template
from pad_pipeline.train.text.encode import encode_caption

IMAGE_WORD, PAD_WORD = "<image>", "<pad>"
ROWS_MULTIPLE = 64
"""The vocabulary is filled up to a multiple of this, as in the published conversions."""


def write_transformers(
    model: VisionLanguageModel,
    tokenizer: Any,
    image_processor: Any,
    folder: Path,
    dtype: torch.dtype | None,
    template: Template,
    stage: TrainingStage,
) -> list[str]:
    llm, vision_config = model.llm, copy.deepcopy(model.vision.config)
    tower = tower_of(vision_config)
    head = llm.get_output_embeddings()
    if getattr(head, "bias", None) is not None:
        raise UserError(
            f"the output layer of {llm.config.model_type} has a bias, which transformers' LLaVA "
            "has not; export with ",
            Setting("format", "llava"),
        )
    original, tokenizer = tokenizer, copy.deepcopy(tokenizer)
    tokenizer.add_tokens([IMAGE_WORD], special_tokens=True)
    tokenizer.add_special_tokens({"pad_token": PAD_WORD})
    image_id, pad_id = tokenizer.convert_tokens_to_ids([IMAGE_WORD, PAD_WORD])
    rows = _rows(len(head.weight), max(image_id, pad_id) + 1)

    text = copy.deepcopy(llm.config)
    text.vocab_size = rows
    tied = bool(text.tie_word_embeddings)
    newline = model.projector.image_newline
    tiled = newline is not None
    config = (LlavaNextConfig if tiled else LlavaConfig)(
        vision_config=vision_config,
        text_config=text,
        image_token_index=image_id,
        image_seq_length=model.projector.num_tokens,
        projector_hidden_act="gelu" if model.projector.kind == "mlp" else "linear",
        vision_feature_layer=model.select_layer,
        vision_feature_select_strategy=tower.strategy,
        multimodal_projector_bias=True,
        tie_word_embeddings=tied,
        **({"image_grid_pinpoints": image_processor.image_grid_pinpoints} if tiled else {}),
    )
    config.pad_token_id = pad_id
    model_class: Any = LlavaNextForConditionalGeneration if tiled else LlavaForConditionalGeneration
    with torch.device("meta"):
        exported = model_class(config)
    state: dict[str, Tensor] = {}
    for prefix, part in (
        ("model.vision_tower.", model.vision.state_dict()),
        ("model.language_model.", llm.base_model.state_dict()),
        ("model.multi_modal_projector.", _two_layers(model.projector)),
        ("", {"lm_head.weight": head.weight}),
    ):
        state.update({prefix + name: tensor for name, tensor in part.items()})
    if newline is not None:
        state["model.image_newline"] = newline
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
    chat_template, is_exact = find_chat_template(original, tokenizer, template, stage)
    tokenizer.chat_template = chat_template  # programs ask either of the two
    (LlavaNextProcessor if tiled else LlavaProcessor)(
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=int(cast(Any, vision_config).patch_size),
        vision_feature_select_strategy=tower.strategy,
        num_additional_image_tokens=tower.class_tokens,
        chat_template=chat_template,
    ).save_pretrained(folder)
    lines = [
        f"loads with {model_class.__name__}.from_pretrained and AutoProcessor",
        f"{IMAGE_WORD} is token {image_id}, {PAD_WORD} {pad_id}; the vocabulary has {rows} rows",
        "the chat template writes conversations as training did"
        + ("" if is_exact else ", but transformers' ids of them differ from those of the training"),
        *_prompts(tokenizer, original),
    ]
    if model.projector.kind == "linear":
        lines.append(
            "transformers' projector has two layers: the first is the trained one, the second "
            "passes everything on"
        )
    return lines


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
        if [IMAGE_TOKEN_INDEX if each == image_id else each for each in ids] == wanted:
            return [f"write prompts as in '{prompt}': these are the ids of the training"]
    return ["transformers' ids of the text after an image differ from those of the training"]


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
