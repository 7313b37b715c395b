"""The model of a training run as it was trained: its template, its frame, its projector.

Shapes: I images, T positions of prompt and image tokens, D LLM width, P tokens per image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.greedy import generate_texts
from pad_pipeline.evaluate.generation.prompts import encode_prompt
from pad_pipeline.evaluate.questions.question import Question, read_image
from pad_pipeline.geometry import geometry
from pad_pipeline.train.constants import IMAGE_TOKEN_INDEX
from pad_pipeline.train.run.folder import read_run
from pad_pipeline.train.run.models import load_finished_model, vision_input


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as ids, and its image in the model's frame, HWC uint8."""

    name: str
    ids: list[int]
    end: int
    frame: NDArray[np.uint8] | None


class RunAnswerer:
    """Answers with the projector (and in stage 2 the language model) that a run has trained."""

    def __init__(self, url: str, config: GenerationConfig) -> None:
        run = read_run(url)
        self.model, self.tokenizer, self.training = load_finished_model(run, device=config.device)
        if config.dtype != "auto":
            self.model.to(getattr(torch, config.dtype))
        self.stage = run.facts["stage"]
        if config.template is not None and config.template != self.training.template:
            raise UserError(
                f"{url} was trained with the template {self.training.template}; leave out ",
                Setting("template", config.template),
            )
        self.image = vision_input(self.model, self.training.vision)

    def prepare(self, question: Question) -> Prepared:
        """The prompt's ids as in training, and the image in the frame of training."""
        frame = None
        if question.image is not None:
            pixels = read_image(question)
            height, width = pixels.shape[:2]
            placement = geometry(self.training.geometry, width, height, self.image.size)
            frame = placement.apply(pixels)
        ids, end = encode_prompt(
            self.tokenizer,
            question.text,
            self.stage,
            self.training.template,
            has_image=frame is not None,
        )
        return Prepared(question.question_id, ids, end, frame)

    @torch.no_grad()
    def answer(self, prepared: Sequence[Prepared], max_new_tokens: int) -> list[str]:
        """The greedy answers, in order; prompts are padded on the left."""
        rows = self._embed(prepared)
        self._check_length(prepared, rows, max_new_tokens)
        ends = {each.end for each in prepared} | self._usual_ends()
        return generate_texts(self.model.llm, self.tokenizer, rows, ends, max_new_tokens)

    def _embed(self, prepared: Sequence[Prepared]) -> list[Tensor]:
        """The language model's input of each prompt, (T, D), image tokens in place."""
        frames = [each.frame for each in prepared if each.frame is not None]
        tokens_IPD = None
        if frames:
            pixels = self.image.normalise(frames).to(self.model.device)
            tokens_IPD = self.model.project(self.model.encode(pixels))
        words = self.model.llm.get_input_embeddings()
        rows, image = [], 0
        for each in prepared:
            ids = torch.tensor(each.ids, device=self.model.device)
            is_image = ids == IMAGE_TOKEN_INDEX
            row_TD = words(ids.masked_fill(is_image, 0))
            if tokens_IPD is not None and bool(is_image.any()):
                [place] = is_image.nonzero().flatten().tolist()
                parts = [row_TD[:place], tokens_IPD[image].to(row_TD.dtype), row_TD[place + 1 :]]
                row_TD, image = torch.cat(parts), image + 1
            rows.append(row_TD)
        return rows

    def _check_length(
        self, prepared: Sequence[Prepared], rows: Sequence[Tensor], max_new_tokens: int
    ) -> None:
        room = getattr(self.model.llm.config, "max_position_embeddings", None)
        for each, row_TD in zip(prepared, rows, strict=True):
            if room is not None and len(row_TD) + max_new_tokens > room:
                raise UserError(
                    f"question {each.name} has {len(row_TD):,} tokens with its image, which leaves "
                    f"no room for {max_new_tokens} more in the model's {room:,}; lower ",
                    Setting("max_new_tokens"),
                    " or shorten ",
                    Setting("prompt"),
                )

    def _usual_ends(self) -> set[int]:
        end = self.tokenizer.eos_token_id
        return set() if end is None else {end}
