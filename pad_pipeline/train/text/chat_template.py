"""The Jinja template of a trained model's chats: it writes what training wrote.

Programs that load an export render conversations by it, with contents as strings or as lists of
texts and images. An image moves to the front of its message, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pad_pipeline.sources.conversations import IMAGE
from pad_pipeline.train.choices import Template, TrainingStage, reads_conversations
from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX
from pad_pipeline.train.text.encode import adds_begin, encode_caption, encode_conversation
from pad_pipeline.train.text.templates import (
    LLAMA3_DATE,
    LLAMA3_END,
    LLAMA3_HEADER,
    LLAMA3_SYSTEM,
    VICUNA_SYSTEM,
)

_BREAKS = ("\n", " \n")
"""What may stand between an image and the text behind it. Training encodes that text by itself;
whether a program puts a word mark in front of it without a space is a matter of its tokenizer."""

_FLATTEN = """\
{%- set ns = namespace(spoken=[]) -%}
{%- for message in messages -%}
{%- set part = namespace(text='', images=0) -%}
{%- if message['content'] is string -%}
{%- set part.text = message['content'] -%}
{%- else -%}
{%- for item in message['content'] -%}
{%- if item['type'] == 'image' -%}
{%- set part.images = part.images + 1 -%}
{%- elif item['type'] == 'text' -%}
{%- set part.text = part.text + item['text'] -%}
{%- else -%}
{{- raise_exception('the model takes texts and images, not ' + item['type']) -}}
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- set images = part.images + part.text.count(IMAGE) -%}
{%- if images > 1 -%}
{{- raise_exception('the model takes one image per message') -}}
{%- endif -%}
{%- if images -%}
{%- set part.text = IMAGE + BREAK + part.text.replace(IMAGE, '').strip() -%}
{%- endif -%}
{%- set ns.spoken = ns.spoken + [{'role': message['role'], 'content': part.text}] -%}
{%- endfor -%}
{%- set messages = ns.spoken -%}
"""
"""Makes every content a string with its image in front."""

_SYSTEM = """\
{%- if messages and messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'].strip() or SYSTEM -%}
{%- set messages = messages[1:] -%}
{%- else -%}
{%- set system = SYSTEM -%}
{%- endif -%}
"""
"""Takes the system's text off the messages."""

_WITH_SYSTEM = """\
{%- set messages = [{'role': 'system', 'content': system}] + messages -%}
"""

_VICUNA = """\
{{- BEGIN + system + ' ' -}}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{{- 'USER:' + (' ' + message['content'] + ' ' if message['content'] else '') -}}
{%- else -%}
{{- 'ASSISTANT:' + (' ' + message['content'] + eos_token if message['content'] else '') -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""

_LLAMA3 = """\
{{- BEGIN -}}
{%- for message in [{'role': 'system', 'content': system}] + messages -%}
{{- HEADER.replace('{role}', message['role']) + message['content'].strip() + END -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- HEADER.replace('{role}', 'assistant') -}}{%- endif -%}
"""

_PLAIN = """\
{{- BEGIN -}}
{%- for message in messages -%}
{{- message['content'] -}}
{%- if message['role'] == 'assistant' -%}{{- '\\n' -}}{%- endif -%}
{%- endfor -%}
"""
"""Stage 1: the image and its caption; what a user writes is the caption's beginning."""


def make_chat_template(
    tokenizer: Any, template: Template, stage: TrainingStage, image_break: str = "\n"
) -> str:
    """The Jinja template for conversations as training with `template` writes them.

    Of a run of stage 1, which has no conversations: the image and the text behind it. `tokenizer`
    is the one of the training; a beginning-of-text token is left to it where it adds one itself.
    """
    begin = "" if adds_begin(tokenizer) else tokenizer.bos_token or ""
    names = {"IMAGE": IMAGE, "BREAK": image_break, "BEGIN": begin}
    if not reads_conversations(stage):
        names["BREAK"] = image_break.replace("\n", "")
        return _fill(_FLATTEN + _PLAIN, names)
    if template == "vicuna-v1":
        return _fill(_FLATTEN + _SYSTEM + _VICUNA, {**names, "SYSTEM": VICUNA_SYSTEM})
    if template == "tokenizer":
        return _fill(_FLATTEN, names) + _own(tokenizer)
    names |= {"SYSTEM": LLAMA3_SYSTEM, "HEADER": LLAMA3_HEADER, "END": LLAMA3_END}
    if getattr(tokenizer, "chat_template", None) is None:
        return _fill(_FLATTEN + _SYSTEM + _LLAMA3, names)
    return _fill(_FLATTEN + _SYSTEM + _WITH_SYSTEM, names) + _own(tokenizer)


def find_chat_template(
    tokenizer: Any,
    exported: Any,
    template: Template,
    stage: TrainingStage,
) -> tuple[str, bool]:
    """(the template with which `exported` gives the ids of training, whether it does).

    `exported` is the tokenizer that goes out, with `<image>` as a token of its own.
    """
    image_id = exported.convert_tokens_to_ids(IMAGE)
    messages, wanted = _probe(tokenizer, template, stage)
    for image_break in _BREAKS:
        found = make_chat_template(tokenizer, template, stage, image_break)
        text = exported.apply_chat_template(messages, chat_template=found, tokenize=False)
        ids = exported(text).input_ids
        if [IMAGE_TOKEN_INDEX if each == image_id else each for each in ids] == wanted:
            return found, True
    return make_chat_template(tokenizer, template, stage), False


def _probe(
    tokenizer: Any, template: Template, stage: TrainingStage
) -> tuple[Sequence[dict[str, str]], list[int]]:
    """A conversation and its ids in training."""
    if not reads_conversations(stage):
        ids = encode_caption(tokenizer, "a cup").input_ids
        return [{"role": "user", "content": IMAGE}, {"role": "assistant", "content": "a cup"}], ids
    texts = (f"{IMAGE}\nWhat is it?", "A cup.", "And there?", "A table.")
    roles = ("user", "assistant") * 2
    turns = [{"from": role, "value": text} for role, text in zip(roles, texts, strict=True)]
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    return messages, encode_conversation(tokenizer, turns, template, has_image=True).input_ids


def _own(tokenizer: Any) -> str:
    """The tokenizer's own template with the settings that training gave it."""
    lines = [
        f"{{%- set date_string = {LLAMA3_DATE!r} -%}}",
        "{%- set enable_thinking = false -%}",
    ]
    if adds_begin(tokenizer):
        lines.append("{%- set bos_token = '' -%}")
    return "\n".join([*lines, tokenizer.chat_template])


def _fill(text: str, names: dict[str, str]) -> str:
    """The template with constants set in front."""
    # Jinja's strings have the escapes of Python's.
    lines = [f"{{%- set {name} = {value!r} -%}}" for name, value in names.items()]
    return "\n".join(lines) + "\n" + text
