"""A LLaVA of transformers, such as an export of `train export` or a published one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pad_pipeline.errors import UserError, short_line
from pad_pipeline.evaluate.generation.chat import ChatPrompts
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.questions.question import Question, read_image
from pad_pipeline.models.pretrained import quiet
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.models import device_and_dtype


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
        self.processor.tokenizer.padding_side = "left"
        if self.processor.tokenizer.pad_token_id is None:
            self.processor.tokenizer.pad_token = self.processor.tokenizer.eos_token
        self.prompts = ChatPrompts(self.processor, config.template, reference)

    def prepare(self, question: Question) -> Prepared:
        """The prompt by the model's own chat template, and the image."""
        image = None if question.image is None else read_image(question)
        return Prepared(self.prompts.write(question.text, has_image=image is not None), image)

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
