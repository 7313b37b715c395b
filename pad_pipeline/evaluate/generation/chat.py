"""Questions as the text of a chat, by a model's own template or by the one that is asked for."""

from __future__ import annotations

from typing import Any

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.sources.conversations import IMAGE
from pad_pipeline.train.choices import Template
from pad_pipeline.train.text.templates import (
    LLAMA3_END,
    LLAMA3_HEADER,
    LLAMA3_SYSTEM,
    VICUNA_SYSTEM,
)


class ChatPrompts:
    """Writes questions for a model of transformers, whose processor may have a chat template."""

    def __init__(self, processor: Any, template: Template | None, reference: str) -> None:
        """Raises `UserError` where nothing says how to write a conversation, or two things do."""
        self._processor = processor
        self._template = template
        own = getattr(processor, "chat_template", None)
        if not own and template is None:
            raise UserError(
                f"{reference} has no chat template; say how conversations are written with ",
                Setting("template", "vicuna-v1"),
            )
        if own and template is not None:
            written, wanted = self._by_own_template("x", True), _by(template, "x", True)
            begin = processor.tokenizer.bos_token or ""
            if "".join(written.removeprefix(begin).split()) != "".join(wanted.split()):
                raise UserError(
                    f"{reference} has a chat template of its own, which writes {written!r} "
                    "and not as ",
                    Setting("template", template),
                    "; leave that out",
                )

    def write(self, text: str, *, has_image: bool) -> str:
        """The prompt without a beginning-of-text token, which the tokenizer puts in front."""
        if getattr(self._processor, "chat_template", None):
            return self._by_own_template(text, has_image)
        assert self._template is not None
        return _by(self._template, text, has_image)

    def _by_own_template(self, text: str, has_image: bool) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] if has_image else []
        content.append({"type": "text", "text": text})
        messages = [{"role": "user", "content": content}]
        written = self._processor.apply_chat_template(messages, add_generation_prompt=True)
        begin = self._processor.tokenizer.bos_token
        return written.removeprefix(begin) if begin else written


def _by(template: str, text: str, has_image: bool) -> str:
    question = f"{IMAGE}\n{text}" if has_image else text
    if template == "vicuna-v1":
        return f"{VICUNA_SYSTEM} USER: {question} ASSISTANT:"
    blocks = [("system", LLAMA3_SYSTEM), ("user", question)]
    said = "".join(LLAMA3_HEADER.format(role=role) + value + LLAMA3_END for role, value in blocks)
    return said + LLAMA3_HEADER.format(role="assistant")
