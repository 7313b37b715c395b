"""Captions, conversations and labels as token ids, with the tokens that are supervised.

Ids equal those of LLaVA's preprocessing. Labels are set by character offsets, never by tokenising
parts again and counting: the tokens that start within an answer, its end token included. They equal
LLaVA's wherever that does not lose a sample's labels to a "tokenization mismatch".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import IMAGE
from pad_pipeline.train.choices import Template
from pad_pipeline.train.constants import IGNORE_INDEX, IMAGE_TOKEN_INDEX
from pad_pipeline.train.text.own_template import render_own
from pad_pipeline.train.text.templates import (
    LLAMA3_TOKENS,
    Rendered,
    TextError,
    check_turns,
    image_to_front,
    render_llama3,
    render_vicuna,
)
from pad_pipeline.train.text.tokenizer import OffsetTokenizer, offset_tokenizer

__all__ = [
    "EncodedText",
    "TextError",
    "encode_caption",
    "encode_conversation",
    "encode_label",
    "load_tokenizer",
]


@dataclass(frozen=True)
class EncodedText:
    """Token ids with `IMAGE_TOKEN_INDEX` for each image, and labels of the same length.

    A label is the id at its own position (not shifted) or `IGNORE_INDEX`, as at images.
    """

    input_ids: list[int]
    labels: list[int]

    @property
    def num_targets(self) -> int:
        """How many tokens are supervised; 0 for example where the only answer is empty."""
        return sum(label != IGNORE_INDEX for label in self.labels)

    @property
    def num_images(self) -> int:
        """How many images the text has room for: one for each turn with `<image>`, so 0 or 2 too.

        Who gives the text one image must compare.
        """
        return self.input_ids.count(IMAGE_TOKEN_INDEX)


def load_tokenizer(reference: str | Path) -> Any:
    """The transformers tokenizer of a directory or of a model on the Hugging Face Hub.

    Raises `UserError` where there is none that can be read, or none that gives offsets.
    """
    from transformers import AutoTokenizer

    is_local = Path(reference).is_dir()
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            str(reference), local_files_only=is_local, trust_remote_code=False
        )
    except Exception as error:  # the tokenizers library raises Exception itself
        raise UserError(_why_unreadable(str(reference), is_local, error)) from error
    offset_tokenizer(tokenizer)
    return tokenizer


def encode_caption(tokenizer: Any, caption: str, *, has_image: bool = True) -> EncodedText:
    """Stage 1: beginning of text, image, caption, newline; supervised are caption and newline.

    An `<image>` in the caption moves to its front and stands for a second image, as in LLaVA.
    A tokenizer without a beginning-of-text token, such as Qwen's, begins with the image.
    """
    text, start = caption + "\n", 0
    if has_image:
        text, start = IMAGE + image_to_front(caption) + "\n", len(IMAGE)
    rendered = Rendered(text, [(start, len(text))])
    return _encode(offset_tokenizer(tokenizer), _begin(tokenizer), rendered, has_image)


def encode_conversation(
    tokenizer: Any, turns: Sequence[Any], template: Template, *, has_image: bool
) -> EncodedText:
    """Stage 2: a conversation; supervised are the answers with their end tokens.

    `turns` are `{"from": "human" | "gpt", "value": text}`, or in another form that
    `sources.conversations` reads; a system turn in front takes the place of the template's system
    text. With an image, `<image>` moves to the front of its turn, as in LLaVA; without, it is text.
    A leading answer is dropped, an empty answer has no target. Nothing is cut to a length.
    "vicuna-v1" ends answers with the tokenizer's own end token; "llama-3" writes Llama 3's headers,
    with the tokenizer's chat template where it has one; "tokenizer" is that template, of whatever
    family. Raises `TextError` where the turns do not
    alternate or are from someone else, and `UserError` where the tokenizer lacks a token that the
    template needs.
    """
    encoder = offset_tokenizer(tokenizer)
    begin = _begin(tokenizer)
    messages = check_turns(turns)
    if has_image:
        messages = [(role, image_to_front(value)) for role, value in messages]
    if template == "llama-3":
        _require(encoder, LLAMA3_TOKENS, "the template llama-3")
        rendered = render_llama3(messages, tokenizer)
    elif template == "tokenizer":
        rendered = render_own(messages, tokenizer)
        # As programs encode what a template writes: with the tokenizer's own beginning, if any.
        if not adds_begin(tokenizer):
            begin = []
        elif rendered.text.startswith(tokenizer.bos_token):
            rendered = rendered.without_start(len(tokenizer.bos_token))
    else:
        if tokenizer.eos_token is None:
            raise UserError(
                f"the tokenizer of {_name(tokenizer)} has no end-of-text token; set eos_token in "
                "its tokenizer_config.json, or give another language model"
            )
        _require(encoder, (tokenizer.eos_token,), "the template vicuna-v1")
        rendered = render_vicuna(messages, tokenizer.eos_token)
    return _encode(encoder, begin, rendered, has_image)


def encode_label(tokenizer: Any, tag: str) -> list[int]:
    """Ids of `tag` as a word in mid-sentence, without special tokens (spec: label embedding).

    SentencePiece puts its word mark in front by itself, byte-level BPE needs the space. Raises
    `TextError` where nothing is left to embed.
    """
    encoder = offset_tokenizer(tokenizer)
    ids = encoder.encode_word(tag.strip()) if tag.strip() else []
    kept = set(encoder.special.values()) - {getattr(tokenizer, "unk_token_id", None)}
    if not ids or kept.intersection(ids):
        raise TextError(f"the label {tag!r} has no words to embed; correct the annotation")
    return ids


def _encode(
    encoder: OffsetTokenizer, begin: list[int], rendered: Rendered, has_image: bool
) -> EncodedText:
    # As in the original each part between images is encoded by itself, with a word mark of its own.
    parts = rendered.text.split(IMAGE) if has_image else [rendered.text]
    is_answer = bytearray(len(rendered.text) + 1)  # one flag a character
    for start, end in rendered.answers:
        is_answer[start:end] = b"\1" * (end - start)
    input_ids, labels, position = list(begin), [IGNORE_INDEX] * len(begin), 0
    for number, part in enumerate(parts):
        if number:
            input_ids.append(IMAGE_TOKEN_INDEX)
            labels.append(IGNORE_INDEX)
            position += len(IMAGE)
        for token, start in encoder.encode(part):
            input_ids.append(token)
            labels.append(token if is_answer[position + start] else IGNORE_INDEX)
        position += len(part)
    return EncodedText(input_ids, labels)


def adds_begin(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a beginning-of-text token in front by itself."""
    return tokenizer.bos_token_id in tokenizer("a").input_ids[:1]


def _begin(tokenizer: Any) -> list[int]:
    """The beginning-of-text token, if the tokenizer has one."""
    return [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]


def _require(encoder: OffsetTokenizer, tokens: Sequence[str], user: str) -> None:
    missing = [token for token in tokens if token not in encoder.special]
    if missing:
        raise UserError(
            f"{user} needs {' and '.join(missing)} as special tokens, which the tokenizer does not "
            "have; choose the template that the language model was trained with"
        )


def _name(tokenizer: Any) -> str:
    return getattr(tokenizer, "name_or_path", "") or "the language model"


def _why_unreadable(reference: str, is_local: bool, error: Exception) -> str:
    if not is_local:
        where = "it is no directory, and the Hugging Face Hub does not give it"
        advice = "check the name and the network, or give a directory"
    elif (Path(reference) / "tokenizer.json").is_file():
        where, advice = "its tokenizer.json cannot be read", "fetch the model again"
    elif (Path(reference) / "tokenizer.model").is_file():
        where = "it holds a SentencePiece tokenizer.model and no tokenizer.json"
        advice = "`pip install sentencepiece protobuf` to read it"
    else:
        where = "the directory holds no tokenizer"
        advice = "expected tokenizer.json or tokenizer.model"
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    return f"no tokenizer in {reference}: {where}; {advice} ({first})"
