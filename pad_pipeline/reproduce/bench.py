"""Projectors trained and measured on generated scenes, whose patches are encoded once."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from pad_pipeline.evaluate.analysis import Measures, measure
from pad_pipeline.evaluate.generation.greedy import embed_prompts, generate_texts
from pad_pipeline.evaluate.generation.prompts import encode_prompt
from pad_pipeline.evaluate.maps import ImageMaps, image_maps
from pad_pipeline.evaluate.measures.alignment import Threshold
from pad_pipeline.geometry import coverage_float32, geometry
from pad_pipeline.models.references import EMBEDDED
from pad_pipeline.progress import track
from pad_pipeline.scenes.generator import Scene, generate_scene
from pad_pipeline.train.choices import ProjectorKind
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.collate import collate
from pad_pipeline.train.data.examples import Example
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.model.load import load_model
from pad_pipeline.train.model.projectors import build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.models import locate, vision_input
from pad_pipeline.train.schedule import beta, learning_rate_factor
from pad_pipeline.train.step import evaluation_step, training_step
from pad_pipeline.train.text.encode import encode_caption, encode_label, load_tokenizer
from pad_pipeline.train.trainer import make_optimizer

logger = logging.getLogger(__name__)

REGIMES = ("random", "caption", "patch_aligned")
"""How a projector is trained: not at all, with the caption loss, or with the patch loss too."""

Tokenizer = Literal["sentencepiece", "byte-level"]

LEARNING_RATE = 3e-3

MAP_THRESHOLD: Threshold = "otsu"
"""Of the masks that `Bench.maps` shows."""

_NUM_MAPS = 6
_FIRST_TRAINING_SCENE = 30_000_000
_FIRST_HELD_OUT_SCENE = 40_000_000
_IMAGES_TOGETHER = 32
_CAPTION_TOKENS = 48
_FRAME: Literal["pad"] = "pad"


@dataclass(frozen=True, slots=True)
class Size:
    """How much is trained and measured."""

    seeds: tuple[int, ...]
    num_scenes: int
    num_held_out: int
    num_steps: int
    batch: int = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """One way to train a projector, of the several that an experiment compares."""

    name: str
    kind: ProjectorKind = "mlp"
    patch_weight: float = 5.0
    is_ramped: bool = True
    """Whether the patch loss's weight rises from 0, or is the same at all steps."""
    caption_weight: float = 1.0
    is_trained: bool = True
    tokenizer: Tokenizer = "sentencepiece"
    """Kind of the language model's; the embedded one has the first."""


FULL = Size(seeds=(0, 1, 2), num_scenes=1000, num_held_out=150, num_steps=120)
QUICK = Size(seeds=(0,), num_scenes=320, num_held_out=60, num_steps=40)


def training_captions(size: Size) -> list[str]:
    """The captions of the scenes that a bench of that size trains on."""
    return _captions(_FIRST_TRAINING_SCENE, size.num_scenes)


def held_out_captions(size: Size) -> list[str]:
    """The captions of the scenes that a bench of that size measures on."""
    return _captions(_FIRST_HELD_OUT_SCENE, size.num_held_out)


def _captions(first: int, number: int) -> list[str]:
    return [generate_scene(seed).caption for seed in range(first, first + number)]


class Bench:
    """Scenes, tower and language model, the same for all runs; patches are encoded once."""

    def __init__(self, size: Size, llm: str = EMBEDDED) -> None:
        """`llm` is a directory with a language model, in place of the embedded one."""
        self.size = size
        self.config = TrainConfig(
            vision="embedded",
            llm=llm,
            geometry=_FRAME,
            global_batch=size.batch,
            micro_batch=size.batch,
            learning_rate=LEARNING_RATE,
            num_validation=0,
        )
        self.tokenizer = load_tokenizer(locate(llm, "language"))
        self.model = self._model("mlp")
        image = vision_input(self.model, "embedded")
        self.image = image
        self.captions: dict[str, str] = {}
        """The caption of each example, by its id."""
        logger.info("drawing and encoding %d scenes", size.num_scenes + size.num_held_out)
        self.train = self._examples(_FIRST_TRAINING_SCENE, size.num_scenes)
        self.held_out = self._examples(_FIRST_HELD_OUT_SCENE, size.num_held_out)
        self.patches: dict[str, Tensor] = {}
        """The patches (S, V) of each example, by its id."""
        self.add_patches([*self.train, *self.held_out])

    def run(
        self, kind: ProjectorKind, regime: str, seed: int
    ) -> tuple[VisionLanguageModel, dict[str, float], list[tuple[int, float]]]:
        """One projector trained in one regime, its measures on held-out scenes, caption losses."""
        torch.manual_seed(seed)
        model = self._model(kind)
        weight = 5.0 if regime == "patch_aligned" else 0.0
        config = replace(self.config, patch_weight=weight, seed=seed)
        curve = self._train(model, config, seed) if regime != "random" else []
        model.eval()
        found: Measures = measure(model, iter(self.batches(model, self.held_out)))
        loss = evaluation_step(
            model, self.batches(model, self.held_out), config, OneWorker()
        ).caption_loss
        values = {
            "delta_h": found.delta_entropy,
            "align": found.align,
            "cosine": found.cosine,
            "caption_loss": loss,
        }
        assert all(math.isfinite(value) for value in values.values()), values
        return model, values, curve

    def maps(self, model: VisionLanguageModel) -> list[ImageMaps]:
        """What the model finds in some of the held-out scenes, for the viewer."""
        return [
            replace(
                image_maps(
                    model,
                    self.tokenizer,
                    self.batches(model, [example])[0],
                    example,
                    threshold=MAP_THRESHOLD,
                    num_iterations=5,
                ),
                image_id=f"scene {example.id}",
                caption=self.captions[example.id],
            )
            for example in self.held_out[:_NUM_MAPS]
        ]

    def train_arm(self, arm: Arm, seed: int) -> VisionLanguageModel:
        """The model with a projector that is trained as an arm of an experiment says."""
        torch.manual_seed(seed)
        model = self._model(arm.kind)
        config = replace(self.config, patch_weight=arm.patch_weight, seed=seed)
        if arm.is_trained:
            self._train(model, config, seed, arm)
        return model.eval()

    def held_out_batches(self, model: VisionLanguageModel) -> list[Batch]:
        """The scenes that training never sees, for a model of `train_arm`."""
        return self.batches(model, self.held_out)

    @torch.no_grad()
    def caption(self, model: VisionLanguageModel) -> list[str]:
        """The model's captions of the held-out scenes, generated greedily."""
        ids, end = encode_prompt(self.tokenizer, "", "pretrain", "vicuna-v1", has_image=True)
        words = model.llm.get_input_embeddings()
        ends = {end, self.tokenizer.eos_token_id}
        texts: list[str] = []
        for batch in self.held_out_batches(model):
            tokens_IPD = model.project(model.encode(batch.pixels_ICHW))
            rows = embed_prompts(words, [ids] * len(tokens_IPD), tokens_IPD)
            texts += generate_texts(model.llm, self.tokenizer, rows, ends, _CAPTION_TOKENS)
        return texts

    def more_held_out(self, number: int) -> list[Example]:
        """Scenes that neither training nor `held_out` has, with their patches."""
        first = _FIRST_HELD_OUT_SCENE + self.size.num_held_out
        examples = self._examples(first, number)
        self.add_patches(examples)
        return examples

    def label_ids(self, tag: str) -> list[int]:
        """Token ids of a tag."""
        return self._label_ids(tag)

    def _train(
        self, model: VisionLanguageModel, config: TrainConfig, seed: int, arm: Arm | None = None
    ) -> list[tuple[int, float]]:
        order = np.random.default_rng(seed)

        def draw() -> list[Example]:
            chosen = order.choice(len(self.train), self.size.batch, replace=False)
            return [self.train[int(i)] for i in chosen]

        return self.fit(model, config, draw, self.size.num_steps, arm)

    def fit(
        self,
        model: VisionLanguageModel,
        config: TrainConfig,
        draw: Callable[[], list[Example]],
        num_steps: int,
        arm: Arm | None = None,
    ) -> list[tuple[int, float]]:
        """Train on a batch of `draw` a step; returns the caption loss of each step."""
        optimizer = make_optimizer(model, config)
        curve = []
        model.train()
        for step in range(num_steps):
            factor = learning_rate_factor(step, num_steps, config.warmup_share)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            metrics = training_step(
                model,
                optimizer,
                self.batches(model, draw()),
                beta=beta(step, num_steps, config.patch_weight)
                if arm is None or arm.is_ramped
                else config.patch_weight,
                config=config,
                workers=OneWorker(),
                step=step,
                caption_weight=1.0 if arm is None else arm.caption_weight,
            )
            curve.append((step, metrics.caption_loss))
        return curve

    def _model(self, kind: ProjectorKind) -> VisionLanguageModel:
        if not hasattr(self, "model"):
            vision, llm = locate("embedded", "vision"), locate(self.config.llm, "language")
            return load_model(vision, llm, kind, dtype=torch.float32)
        ours = self.model
        old = ours.projector
        projector = build_projector(
            kind,
            vision_width=old.vision_width,
            llm_width=old.llm_width,
            grid=old.grid,
            num_tokens=(old.grid * 2 // 3) ** 2,
            hidden_width=old.llm_width if kind == "c-abstractor" else None,
        )
        return EncodedModel(ours.vision, projector, ours.llm, compute_dtype=ours.compute_dtype)

    def _examples(self, first: int, number: int) -> list[Example]:
        seeds = track(range(first, first + number), number, "drawing scenes")
        return [self.example(seed, generate_scene(seed)) for seed in seeds]

    def example(self, seed: int, scene: Scene) -> Example:
        """The scene of a seed with its caption, in the frame that the tower sees."""
        self.captions[str(seed)] = scene.caption
        height, width = scene.image.shape[:2]
        placement = geometry(_FRAME, width, height, self.image.size)
        encoded = encode_caption(self.tokenizer, scene.caption)
        masks = [thing.mask for thing in scene.things]
        coverage = placement.coverage_many(masks, self.image.grid)
        return Example(
            id=str(seed),
            input_ids=encoded.input_ids,
            labels=encoded.labels,
            frame=placement.apply(scene.image),
            coverage_RS=coverage_float32(coverage),
            tags=[thing.kind for thing in scene.things],
        )

    def _label_ids(self, tag: str) -> list[int]:
        return encode_label(self.tokenizer, tag)

    def add_patches(self, examples: Sequence[Example]) -> None:
        """Encode the examples, so that `batches` finds their patches."""
        for start in range(0, len(examples), _IMAGES_TOGETHER):
            group = examples[start : start + _IMAGES_TOGETHER]
            pixels = self.image.normalise([e.frame for e in group if e.frame is not None])
            self.patches |= zip([e.id for e in group], self.model.encode(pixels), strict=True)

    def batches(self, model: VisionLanguageModel, examples: Sequence[Example]) -> list[Batch]:
        """The examples with their encoded patches in the place of pixels."""
        image = replace(self.image, num_tokens=model.projector.num_tokens)
        batches = []
        for start in range(0, len(examples), _IMAGES_TOGETHER):
            group = examples[start : start + _IMAGES_TOGETHER]
            patches = torch.stack([self.patches[example.id] for example in group])
            batches.append(replace(collate(group, image, self._label_ids), pixels_ICHW=patches))
        return batches


class EncodedModel(VisionLanguageModel):
    """A model whose batches carry patches of the tower in the place of pixels."""

    def encode(self, pixels_ICHW: Tensor) -> Tensor:
        """The patches, which are encoded already: (I, S, V)."""
        return pixels_ICHW
