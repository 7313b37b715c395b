"""The model of a training run as it was trained: its template, its frame, its projector.

Shapes: I images (or views of them), T positions of prompt and image tokens, N tokens of an image,
D LLM width, P tokens per view.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.generation.config import GenerationConfig
from pad_pipeline.evaluate.generation.greedy import embed_prompts, generate_texts
from pad_pipeline.evaluate.generation.prompts import encode_prompt
from pad_pipeline.evaluate.questions.question import Question, read_image
from pad_pipeline.train.data.views import views_of
from pad_pipeline.train.run.folder import read_run
from pad_pipeline.train.run.models import load_finished_model, vision_input
from pad_pipeline.train.tiling import Tiling


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt as ids, and what the tower sees of its image, HWC uint8 each."""

    name: str
    ids: list[int]
    end: int
    frames: list[NDArray[np.uint8]]
    tiling: Tiling | None = None


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
        frames, tiling = [], None
        if question.image is not None:
            pixels = read_image(question)
            height, width = pixels.shape[:2]
            views = views_of(self.training, self.image, width, height)
            frames, tiling = views.frames(pixels), views.tiling
        ids, end = encode_prompt(
            self.tokenizer,
            question.text,
            self.stage,
            self.training.template,
            has_image=bool(frames),
        )
        return Prepared(question.question_id, ids, end, frames, tiling)

    @torch.no_grad()
    def answer(self, prepared: Sequence[Prepared], max_new_tokens: int) -> list[str]:
        """The greedy answers, in order; prompts are padded on the left."""
        rows = self._embed(prepared)
        self._check_length(prepared, rows, max_new_tokens)
        ends = {each.end for each in prepared} | self._usual_ends()
        return generate_texts(self.model.llm, self.tokenizer, rows, ends, max_new_tokens)

    def _embed(self, prepared: Sequence[Prepared]) -> list[Tensor]:
        """The language model's input of each prompt, (T, D), image tokens in place."""
        tokens = self._image_tokens(prepared)
        words = self.model.llm.get_input_embeddings()
        return embed_prompts(words, [each.ids for each in prepared], tokens)

    def _image_tokens(self, prepared: Sequence[Prepared]) -> Iterator[Tensor]:
        """The tokens of each image, (N, D), in order."""
        frames = [frame for each in prepared for frame in each.frames]
        if not frames:
            return
        pixels = self.image.normalise(frames).to(self.model.device)
        tokens_IPD = self.model.project(self.model.encode(pixels))
        shown = [each for each in prepared if each.frames]
        parts = tokens_IPD.split([len(each.frames) for each in shown])
        for each, part_IPD in zip(shown, parts, strict=True):
            yield self.model.pack(part_IPD, () if each.tiling is None else (each.tiling,))

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
