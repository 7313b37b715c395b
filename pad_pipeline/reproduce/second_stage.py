"""Stage 2 in miniature: conversations about drawn scenes, and what the model answers afterwards.

Conversations have several questions about one image, so that every pass over its tokens teaches
several answers. Patches are those of the `Bench`.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.generation.greedy import embed_prompts, generate_texts
from pad_pipeline.reproduce.bench import Bench, EncodedModel
from pad_pipeline.scenes.generator import generate_scene
from pad_pipeline.scenes.questions import TOPICS, Most, SceneQuestion, choose, draw_questions
from pad_pipeline.sources.conversations import IMAGE
from pad_pipeline.train.constants import IGNORE_INDEX
from pad_pipeline.train.data.examples import Example
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.models import locate
from pad_pipeline.train.text.encode import EncodedText, encode_conversation, load_tokenizer

logger = logging.getLogger(__name__)

SYSTEM = "Scene."
"""In the place of Vicuna's system text, which has 49 tokens here."""

LEARNING_RATE = 6e-4
PROJECTOR_LEARNING_RATE = 2e-3
_FIRST_SCENE = 50_000_000
_MAX_NEW_TOKENS = 16
_MOST = Most(where=1, yes_or_no=6)
"""Boxes are many tokens: with three of them in a conversation little is learnt of the others."""
_ANSWERED_TOGETHER = 64


@dataclass(frozen=True, slots=True)
class SecondSize:
    """How long stage 2 is, on how many scenes, and how many are asked about."""

    num_scenes: int
    num_steps: int
    batch: int = 8
    num_more_asked: int = 0
    """Held-out scenes to ask about beside the bench's: a topic has one question of most scenes."""


FULL_SECOND = SecondSize(num_scenes=3000, num_steps=840, num_more_asked=150)
QUICK_SECOND = SecondSize(num_scenes=480, num_steps=60)


class SecondStage:
    """Conversations, and the questions about held-out scenes, the same for all runs."""

    def __init__(self, bench: Bench, size: SecondSize) -> None:
        self.bench = bench
        self.size = size
        self.tokenizer = load_tokenizer(locate("embedded", "language"))
        logger.info("drawing and encoding %d scenes for stage 2", size.num_scenes)
        self.train, self.talks = self._scenes(_FIRST_SCENE, size.num_scenes)
        bench.add_patches(self.train)
        asked = [*bench.held_out, *bench.more_held_out(size.num_more_asked)]
        self.asked = [
            (example, question, place)
            for example in asked
            for place, question in enumerate(_chosen(int(example.id)))
        ]

    def run(self, model: VisionLanguageModel, seed: int) -> tuple[VisionLanguageModel, float]:
        """A copy of the model after stage 2, whose projector and language model it trains further.

        Also the mean loss of its last steps.
        """
        projector, llm = copy.deepcopy(model.projector), copy.deepcopy(model.llm)
        second = EncodedModel(model.vision, projector, llm, compute_dtype=model.compute_dtype)
        second.freeze("finetune")
        config = replace(
            self.bench.config,
            patch_weight=0.0,
            learning_rate=LEARNING_RATE,
            projector_learning_rate=PROJECTOR_LEARNING_RATE,
            seed=seed,
        )
        rng = np.random.default_rng(seed)

        def draw() -> list[Example]:
            chosen = rng.choice(len(self.train), self.size.batch, replace=False)
            return [self._conversation(self.train[int(i)], rng) for i in chosen]

        curve = self.bench.fit(second, config, draw, self.size.num_steps)
        last = [loss for _, loss in curve[-20:]]
        return second.eval(), sum(last) / len(last)

    @torch.no_grad()
    def answer(self, model: VisionLanguageModel) -> list[Answer]:
        """The model's answers to all questions about held-out scenes, each asked by itself.

        The entry has `category` (its topic), the `references` and, for boxes, the size of the
        image.
        """
        words = model.llm.get_input_embeddings()
        ends = {self.tokenizer.eos_token_id}
        order = sorted(range(len(self.asked)), key=lambda n: len(self.asked[n][1].question))
        texts: dict[int, str] = {}
        for start in range(0, len(order), _ANSWERED_TOGETHER):
            group = order[start : start + _ANSWERED_TOGETHER]
            prompts = [self._prompt(self.asked[n][1].question) for n in group]
            patches = torch.stack([self.bench.patches[self.asked[n][0].id] for n in group])
            rows = embed_prompts(words, prompts, model.project(patches))
            found = generate_texts(model.llm, self.tokenizer, rows, ends, _MAX_NEW_TOKENS)
            texts |= zip(group, found, strict=True)
        return [
            _answer(example.id, place, question, texts[number])
            for number, (example, question, place) in enumerate(self.asked)
        ]

    def _scenes(
        self, first: int, number: int
    ) -> tuple[list[Example], dict[str, list[SceneQuestion]]]:
        examples, talks = [], {}
        for seed in range(first, first + number):
            scene = generate_scene(seed)
            examples.append(self.bench.example(seed, scene))
            talks[str(seed)] = draw_questions(scene, np.random.default_rng(seed))
        return examples, talks

    def _conversation(self, example: Example, rng: np.random.Generator) -> Example:
        """The example with some of its questions in the place of its caption."""
        chosen = choose(self.talks[example.id], rng, _MOST)
        encoded = encode_questions(self.tokenizer, [(q.question, q.answer) for q in chosen])
        return replace(
            example,
            input_ids=encoded.input_ids,
            labels=encoded.labels,
            coverage_RS=example.coverage_RS[:0],
            tags=[],
        )

    def _prompt(self, question: str) -> list[int]:
        encoded = encode_questions(self.tokenizer, [(question, "x")])
        first = next(n for n, label in enumerate(encoded.labels) if label != IGNORE_INDEX)
        return encoded.input_ids[:first]


def encode_questions(tokenizer: Any, rounds: Sequence[tuple[str, str]]) -> EncodedText:
    """A conversation of these questions and answers about one image; the answers are learnt."""
    turns = [{"from": "system", "value": SYSTEM}]
    for number, (question, answer) in enumerate(rounds):
        image = "" if number else f"{IMAGE}\n"
        turns.append({"from": "human", "value": image + question})
        turns.append({"from": "gpt", "value": answer})
    return encode_conversation(tokenizer, turns, "vicuna-v1", has_image=True)


def _chosen(seed: int) -> list[SceneQuestion]:
    """Of a held-out scene's questions all that ask where, and one of every other topic."""
    asked = draw_questions(generate_scene(seed), np.random.default_rng(seed))
    first = {question.topic: question for question in reversed(asked)}
    return [
        *(question for question in asked if question.topic == "where"),
        *(first[topic] for topic in TOPICS if topic != "where" and topic in first),
    ]


def _answer(scene: str, place: int, question: SceneQuestion, text: str) -> Answer:
    name = f"{scene}/{place}"
    entry: dict[str, Any] = {"question_id": name, "prompt": question.question, "answer": text}
    entry |= {"category": question.topic, "references": [question.answer]}
    if question.size is not None and question.bbox_xyxy is not None:
        width, height = question.size
        entry |= {"references": list(question.bbox_xyxy), "width": width, "height": height}
    return Answer(name, text, entry, "the miniature")
