"""Prompts as the public evaluations write them, and as token ids by the template of training."""

from __future__ import annotations

from typing import Any

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.choices import Benchmark, Kind
from pad_pipeline.sources.conversations import IMAGE
from pad_pipeline.train.choices import Template, TrainingStage, reads_conversations
from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.text.encode import encode_caption, encode_conversation

_SHORT = "{question}\nAnswer the question using a single word or phrase."
_LETTER = "{question}\nAnswer with the option's letter from the given choices directly."
CAPTION = "Provide a one-sentence caption for the provided image."
REFERRING = (
    "Bounding box coordinates are specified in the format (top-left x, top-left y, bottom-right x, "
    "bottom-right y). All values are floating point numbers bounded between 0 and 1. Please "
    "provide the bounding box coordinate of the region this sentence describes: {question}"
)
_VQA: dict[Benchmark, str] = {
    "gqa": _SHORT,
    "scienceqa": _LETTER,
    "vizwiz": (
        "{question}\nWhen the provided information is insufficient, respond with 'Unanswerable'.\n"
        "Answer the question using a single word or phrase."
    ),
    "ok-vqa": _SHORT,
    "textvqa": _SHORT,
    "pope": _SHORT,
    "mme": _SHORT,
    "mmbench": _LETTER,
    "exact": "{question}",
}


def default_prompt(kind: Kind, benchmark: Benchmark | None) -> str:
    """The prompt of LLaVA's and lmms-eval's evaluations; `{question}` stands for the question."""
    if kind == "vqa":
        assert benchmark is not None
        return _VQA[benchmark]
    return CAPTION if kind == "captions" else REFERRING


def default_max_new_tokens(kind: Kind) -> int:
    """Room for an answer of this kind."""
    return {"captions": 64, "referring": 64, "vqa": 16}[kind]


def check_prompt(prompt: str, kind: Kind) -> None:
    """Raise `UserError` for a prompt that never asks the question."""
    if kind != "captions" and "{question}" not in prompt:
        raise UserError(
            Setting("prompt"), f" must hold {{question}}, where the question stands, not {prompt!r}"
        )


def encode_prompt(
    tokenizer: Any, text: str, stage: TrainingStage, template: Template, *, has_image: bool
) -> tuple[list[int], int]:
    """(ids up to where the answer begins, the id that ends an answer), as in training.

    In stage 1 there is no question: the model has learnt to caption what follows the image.
    """
    if not reads_conversations(stage):
        encoded = encode_caption(tokenizer, "x", has_image=has_image)
    else:
        question = f"{IMAGE}\n{text}" if has_image else text
        turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "x"}]
        encoded = encode_conversation(tokenizer, turns, template, has_image=has_image)
    first = next(n for n, label in enumerate(encoded.labels) if label != IGNORE_INDEX)
    [*_, end] = [label for label in encoded.labels if label != IGNORE_INDEX]
    return encoded.input_ids[:first], end
