"""Conversations as the text that a language model reads, and where its answers stand in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import IMAGE, ConversationError, Role, read_turns

VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
LLAMA3_SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
LLAMA3_HEADER = "<|start_header_id|>{role}<|end_header_id|>\n\n"
LLAMA3_END = "<|eot_id|>"
LLAMA3_TOKENS = ("<|start_header_id|>", "<|end_header_id|>", LLAMA3_END)
LLAMA3_DATE = "26 Jul 2024"
"""The date that Llama 3.1's chat template writes by default; later ones would write today's."""

Messages = Sequence[tuple[str, str]]
"""Who speaks, and what: (role, text)."""


class TextError(UserError, ValueError):
    """A text that cannot be turned into a sample; the message names what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, without a beginning-of-text token unless its template writes one.

    `answers` are [start, end) in characters: what is supervised, end token included.
    """

    text: str
    answers: list[tuple[int, int]]

    def without_start(self, number: int) -> Rendered:
        """The same without its first `number` characters, which are no answer."""
        return Rendered(self.text[number:], [(a - number, b - number) for a, b in self.answers])


def image_to_front(value: str) -> str:
    """The text of a turn with one `<image>` and a newline in front, if it holds any at all.

    As in LLaVA the number does not matter, and the rest loses the white space at both ends.
    """
    if IMAGE not in value:
        return value
    return f"{IMAGE}\n{value.replace(IMAGE, '').strip()}".strip()


def check_turns(turns: Sequence[Any]) -> list[tuple[Role, str]]:
    """(role, text) of each turn: the system's first if there is one, then user and assistant.

    `turns` are in any form that `sources.conversations` reads. User and assistant alternate; an
    answer before the first question is dropped, as in LLaVA. Raises `TextError` for what the
    original stops at: no turns, an unknown role, two turns of the same side in a row.
    """
    if not turns:
        raise TextError("the conversation has no turns")
    try:
        read = read_turns(turns)
    except ConversationError as error:
        raise TextError(str(error)) from error
    system: list[tuple[Role, str]] = [("system", read[0].text)] if read[0].role == "system" else []
    messages: list[tuple[Role, str]] = []
    for number, turn in enumerate(read[len(system) :], 1 + len(system)):
        if turn.role == "system":
            raise TextError(f"turn {number} is from the system, which may only begin")
        if number == 1 + len(system) and turn.role == "assistant":
            continue
        if turn.role != ("user", "assistant")[len(messages) % 2]:
            raise TextError(
                f"turn {number} is from the {turn.role} like the turn before it; user and "
                "assistant must alternate"
            )
        messages.append((turn.role, turn.text))
    return [*system, *messages]


def _split_system(messages: Messages, default: str) -> tuple[str, Messages]:
    """The system's text, or `default` where it says nothing, and the other messages."""
    if messages and messages[0][0] == "system":
        return messages[0][1].strip() or default, messages[1:]
    return default, messages


def render_vicuna(messages: Messages, end_token: str) -> Rendered:
    """Vicuna's v1 format; an answer runs from the colon of `ASSISTANT:` to its end token.

    As in LLaVA an empty message is written without a separator, so an empty answer has no target.
    A system message stands in the place of Vicuna's own.
    """
    names = {"user": "USER", "assistant": "ASSISTANT"}
    separators = {"user": " ", "assistant": end_token}
    system, messages = _split_system(messages, VICUNA_SYSTEM)
    text, answers = system + " ", []
    for role, value in messages:
        text += names[role] + ":"
        start = len(text)
        if value:
            text += " " + value + separators[role]
            if role == "assistant":
                answers.append((start, len(text)))
    return Rendered(text, answers)


def render_llama3(messages: Messages, tokenizer: Any) -> Rendered:
    """Llama 3's format; an answer runs from its first character to its `<|eot_id|>`.

    A tokenizer with a chat template writes the text itself (Llama 3.1's puts two lines with dates
    before the system text); one without gets Llama 3's plain format. A system message stands in
    the place of the default one. White space at both ends of a
    message is dropped, as in both; an answer of which nothing is left has no target. Raises
    `UserError` where the template writes another format.
    """
    system, messages = _split_system(messages, LLAMA3_SYSTEM)
    spoken = [("system", system), *((role, value.strip()) for role, value in messages)]
    blocks = [f"{LLAMA3_HEADER.format(role=role)}{value}{LLAMA3_END}" for role, value in spoken]
    text = "".join(blocks)
    if getattr(tokenizer, "chat_template", None):
        text = _from_template(tokenizer, spoken).removeprefix(tokenizer.bos_token)
        # The system block is the template's own: it may hold more than the system text.
        spoken, blocks = spoken[1:], blocks[1:]
    answers, position = [], 0
    for (role, value), block in zip(spoken, blocks, strict=True):
        start = text.find(block, position)
        if start < 0:
            raise UserError(
                f"the tokenizer's chat template does not write a message as Llama 3 does "
                f"({block[:60]!r} is not in its text); choose the template of this model's family"
            )
        position = start + len(block)
        if role == "assistant" and value:
            answers.append((position - len(value) - len(LLAMA3_END), position))
    return Rendered(text, answers)


def apply_template(tokenizer: Any, spoken: Messages, *, asks: bool = False) -> str:
    """What the tokenizer's chat template writes, the same on every day; `asks` for an answer.

    Qwen3's writes no thoughts. Raises jinja2's `TemplateError` where it refuses the messages.
    """
    return tokenizer.apply_chat_template(
        [{"role": role, "content": value} for role, value in spoken],
        tokenize=False,
        add_generation_prompt=asks,
        date_string=LLAMA3_DATE,
        enable_thinking=False,
    )


def _from_template(tokenizer: Any, spoken: Messages) -> str:
    from jinja2 import TemplateError

    try:
        return apply_template(tokenizer, spoken)
    except TemplateError as error:
        raise UserError(
            f"the tokenizer's chat template refuses a conversation with a system text: {error}; "
            "give the tokenizer of a Llama 3 model"
        ) from error
