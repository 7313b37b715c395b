"""Conversations in the format of the tokenizer's own chat template, of whatever family.

A chat template says nothing about where its answers stand. They are found by rendering marks in
place of the texts, once for each sequence of roles: what stands between the marks is the format.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import TemplateError

from pad_pipeline.errors import UserError
from pad_pipeline.train.text.templates import Messages, Rendered, TextError, apply_template
from pad_pipeline.train.text.tokenizer import offset_tokenizer

_OPEN, _CLOSE = "\ue000", "\ue001"
_MARK = re.compile(f"{_OPEN}(\\d+){_CLOSE}")


def render_own(messages: Messages, tokenizer: Any) -> Rendered:
    """The text of the tokenizer's chat template, a beginning-of-text token of its own included.

    An answer runs from where the template's prompt for it ends to its end token. White space at
    both ends of a message is dropped; an answer of which nothing is left has no target. Without a
    system message there is the template's own, if it has one. Raises `TextError` where the
    template refuses the messages or rewrites one, and `UserError` where it cannot be followed.
    """
    spoken = [(role, value.strip()) for role, value in messages]
    roles = tuple(role for role, _ in spoken)
    try:
        form = _form(tokenizer, tokenizer.chat_template, roles)
        wanted = apply_template(tokenizer, spoken)
    except TemplateError as error:
        raise TextError(f"the tokenizer's chat template refuses it: {error}") from error
    text, answers = form.literals[0], []
    for number, literal in zip(form.order, form.literals[1:], strict=True):
        role, value = spoken[number]
        if role == "assistant" and value:
            start = len(text) - form.lead[number]
            answers.append((start, len(text) + len(value) + form.end[number]))
        text += value + literal
    if text != wanted:
        raise TextError("the tokenizer's chat template rewrites one of its messages")
    return Rendered(text, answers)


@dataclass(frozen=True)
class _Form:
    """What a template writes around messages of certain roles."""

    literals: tuple[str, ...]
    """Before, between and after the messages."""
    order: tuple[int, ...]
    """The messages in the order in which their texts stand."""
    lead: dict[int, int]
    """Of each answer, the characters before its text that are no part of the prompt."""
    end: dict[int, int]
    """Of each answer, the characters of its end token."""


@lru_cache(maxsize=1024)
def _form(tokenizer: Any, template: str | None, roles: tuple[Any, ...]) -> _Form:
    if not template:
        raise UserError(
            f"the tokenizer of {getattr(tokenizer, 'name_or_path', '') or 'the language model'} "
            "has no chat template; choose vicuna-v1 or llama-3"
        )
    marked = [(role, f"{_OPEN}{number}{_CLOSE}") for number, role in enumerate(roles)]
    parts = _MARK.split(apply_template(tokenizer, marked))
    literals, order = tuple(parts[::2]), tuple(map(int, parts[1::2]))
    if sorted(order) != list(range(len(roles))):
        raise UserError(
            "the tokenizer's chat template writes a message twice or not at all; choose vicuna-v1 "
            "or llama-3"
        )
    special = sorted(offset_tokenizer(tokenizer).special, key=len, reverse=True)
    lead, end = {}, {}
    for place, number in enumerate(order):
        if roles[number] != "assistant":
            continue
        before, after = literals[place], literals[place + 1]
        token = next((each for each in special if after.startswith(each)), None)
        if token is None:
            raise UserError(
                "the tokenizer's chat template does not end an answer with a special token "
                f"({after[:20]!r} follows it); choose vicuna-v1 or llama-3"
            )
        prompt = _MARK.split(apply_template(tokenizer, marked[:number], asks=True))[-1]
        lead[number] = len(before) - _num_common(before, prompt)
        end[number] = len(token)
    return _Form(literals, order, lead, end)


def _num_common(one: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    pairs = zip(one, other, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
