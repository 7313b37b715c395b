"""A LLaVA of transformers, such as an export of `train export` or a published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pad_pipeline.errors import Setting, UserError, short_line
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.questions.question import Question, read_image
from pad_pipeline.models.pretrained import quiet
from pad_pipeline.sources.conversations import IMAGE
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.models import device_and_dtype
from pad_pipeline.train.text.templates import (
    LLAMA3_END,
    LLAMA3_HEADER,
    LLAMA3_SYSTEM,
    VICUNA_SYSTEM,
)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as text, and its image, HWC uint8."""

    text: str
    image: NDArray[np.uint8] | None


class TransformersAnswerer:
    """Answers with `AutoModelForImageTextToText` and `AutoProcessor`."""

    def __init__(self, reference: str, config: GenerationConfig) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        device, dtype = device_and_dtype(
            TrainConfig(vision="", llm="", device=config.device, dtype=config.dtype)
        )
        try:
            with quiet():
                self.processor: Any = AutoProcessor.from_pretrained(reference)
                model: Any = AutoModelForImageTextToText.from_pretrained(reference, dtype=dtype)
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{reference} cannot be loaded as a vision-language model of transformers "
                f"({short_line(error)}); a C-Abstractor is evaluated from its run, not its export"
            ) from error
        self.model = model.to(device).eval()
        self.template = config.template
        self.reference = reference
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token_id is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self._check_template()

    def prepare(self, question: Question) -> Prepared:
        """The prompt by the model's own chat template, and the image."""
        image = None if question.image is None else read_image(question)
        return Prepared(self._prompt(question.text, image is not None), image)

    @torch.no_grad()
    def answer(self, prepared: Sequence[Prepared], max_new_tokens: int) -> list[str]:
        """The greedy answers, in order; prompts are padded on the left."""
        images = [each.image for each in prepared if each.image is not None]
        inputs = self.processor(
            images=images or None,
            text=[each.text for each in prepared],
            padding=True,
            return_tensors="pt",
        ).to(self.model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        generated = self.model.generate(
            **inputs, max_new_tokens=max_new_tokens, do_sample=False, num_beams=1, use_cache=True
        )
        answers = generated[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.batch_decode(answers, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _check_template(self) -> None:
        """Raise `UserError` where nothing says how to write a conversation, or two things do."""
        own = getattr(self.processor, "chat_template", None)
        if not own and self.template is None:
            raise UserError(
                f"{self.reference} has no chat template; say how conversations are written with ",
                Setting("template", "vicuna-v1"),
            )
        if own and self.template is not None:
            written, wanted = self._by_own_template("x", True), _by(self.template, "x", True)
            begin = self.processor.tokenizer.bos_token or ""
            if "".join(written.removeprefix(begin).split()) != "".join(wanted.split()):
                raise UserError(
                    f"{self.reference} has a chat template of its own, which writes {written!r} "
                    "and not as ",
                    Setting("template", self.template),
                    "; leave that out",
                )

    def _prompt(self, text: str, has_image: bool) -> str:
        if getattr(self.processor, "chat_template", None):
            return self._by_own_template(text, has_image)
        assert self.template is not None
        return _by(self.template, text, has_image)

    def _by_own_template(self, text: str, has_image: bool) -> str:
        content: list[dict[str, str]] = [{"type": "image"}] if has_image else []
        content.append({"type": "text", "text": text})
        messages = [{"role": "user", "content": content}]
        written = self.processor.apply_chat_template(messages, add_generation_prompt=True)
        begin = self.processor.tokenizer.bos_token
        # the tokenizer puts its own in front
        return written.removeprefix(begin) if begin else written


def _by(template: str, text: str, has_image: bool) -> str:
    question = f"{IMAGE}\n{text}" if has_image else text
    if template == "vicuna-v1":
        return f"{VICUNA_SYSTEM} USER: {question} ASSISTANT:"
    blocks = [("system", LLAMA3_SYSTEM), ("user", question)]
    said = "".join(LLAMA3_HEADER.format(role=role) + value + LLAMA3_END for role, value in blocks)
    return said + LLAMA3_HEADER.format(role="assistant")
