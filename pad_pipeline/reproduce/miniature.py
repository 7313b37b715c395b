"""The paper's Tables 1 to 3 in miniature: three projectors, trained three ways, measured alike."""

from __future__ import annotations

import json
import logging
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.analyze import Measures, measure
from pad_pipeline.evaluate.maps import image_maps, write_maps
from pad_pipeline.evaluate.pictures import words_of
from pad_pipeline.evaluate.plots import loss_curves_figure
from pad_pipeline.geometry import coverage_float32, geometry
from pad_pipeline.scenes.generator import Scene, generate_scene
from pad_pipeline.train.data.batch import Batch
from pad_pipeline.train.data.loader import Example, Loader
from pad_pipeline.train.loop import make_optimizer
from pad_pipeline.train.model.load import load_model
from pad_pipeline.train.model.projectors import ProjectorKind, build_projector
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.models import image_format, locate
from pad_pipeline.train.schedule import beta, learning_rate_factor
from pad_pipeline.train.step import OneWorker, evaluation_step, training_step
from pad_pipeline.train.text.encode import encode_caption, load_tokenizer

logger = logging.getLogger(__name__)

KINDS: tuple[ProjectorKind, ...] = ("linear", "mlp", "c-abstractor")
WAYS = ("random", "caption", "patch_aligned")

PAPER: dict[str, dict[str, dict[str, float]]] = {
    "linear": {"random": {"delta_h": 0.0156}, "caption": {"delta_h": 2.3524}},
    "mlp": {
        "random": {"delta_h": 0.0108, "align": 0.065, "cosine": 0.06},
        "caption": {"delta_h": 2.7991, "align": 0.142, "cosine": 0.07},
        "patch_aligned": {"delta_h": 3.8352, "align": 0.279, "cosine": 0.56},
    },
    "c-abstractor": {"random": {"delta_h": -2.6560}, "caption": {"delta_h": 1.2503}},
}
"""Tables 1 to 3 of arXiv 2505.17316 (CLIP ViT-L/14-336, Vicuna-7B, 100 images of COCO)."""

_SHOWN: ProjectorKind = "mlp"
_NUM_MAPS = 6
_FIRST_TRAINING_SCENE = 30_000_000
_FIRST_HELD_OUT_SCENE = 40_000_000
_IMAGES_TOGETHER = 32


@dataclass(frozen=True, slots=True)
class Size:
    """How much of it is done."""

    seeds: tuple[int, ...]
    num_scenes: int
    num_held_out: int
    num_steps: int
    batch: int = 32


FULL = Size(seeds=(0, 1, 2), num_scenes=1000, num_held_out=150, num_steps=120)
QUICK = Size(seeds=(0,), num_scenes=320, num_held_out=60, num_steps=40)

LEARNING_RATE = 3e-3


def reproduce(
    output: str | Path, *, quick: bool = False, console: Console | None = None
) -> list[str]:
    """Train and measure all, write `results.json` and the loss curves, return the table's lines."""
    size = QUICK if quick else FULL
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} should be a folder to write to, but it is a file")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    bench = _Bench(size)
    runs: dict[str, dict[str, list[dict[str, float]]]] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for kind in KINDS:
        runs[kind] = {way: [] for way in WAYS}
        for seed in size.seeds:
            for way in WAYS:
                is_shown = kind == _SHOWN and seed == size.seeds[0]
                values, curve = bench.run(kind, way, seed, folder if is_shown else None)
                runs[kind][way].append(values)
                if curve and seed == size.seeds[0]:
                    curves[f"{kind}/{way.replace('_', ' ')}"] = curve
                logger.info(
                    "%s, %s, seed %d: delta H %.3f, Align %.3f, cosine %.3f, caption loss %.3f",
                    *(kind, way.replace("_", " "), seed),
                    *(values[name] for name in ("delta_h", "align", "cosine", "caption_loss")),
                )
    results = {kind: {way: _summary(runs[kind][way]) for way in WAYS} for kind in KINDS}
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    figure = loss_curves_figure(curves, unit="caption loss over optimiser steps, first seed")
    figure.savefig(folder / "loss_curves.png", dpi=120)
    minutes = (time.monotonic() - began) / 60
    return [
        *_table(results),
        "",
        f"wrote {folder}/results.json, loss_curves.png and maps/ ({minutes:.1f} min)",
    ]


class _Bench:
    """Scenes, tower and language model, the same for all runs; patches are encoded once."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.config = TrainConfig(
            vision="embedded",
            llm="embedded",
            geometry="pad",
            global_batch=size.batch,
            micro_batch=size.batch,
            learning_rate=LEARNING_RATE,
            num_validation=0,
        )
        self.tokenizer = load_tokenizer(locate("embedded", "language"))
        self.model = self._model("mlp")
        image = image_format(self.model, "embedded")
        self.image_tokens = image.num_tokens
        loader = Loader([], self.tokenizer, self.config, image)  # type: ignore[arg-type]
        self.loader = loader
        logger.info("drawing and encoding %d scenes", size.num_scenes + size.num_held_out)
        self.train = self._examples(_FIRST_TRAINING_SCENE, size.num_scenes)
        self.held_out = self._examples(_FIRST_HELD_OUT_SCENE, size.num_held_out)
        self.patches = {id(e): p for e, p in self._encode([*self.train, *self.held_out])}

    def run(
        self, kind: ProjectorKind, way: str, seed: int, maps: Path | None = None
    ) -> tuple[dict[str, float], list[tuple[int, float]]]:
        """One projector trained one way: its measures on held-out scenes, its caption losses.

        `maps` is a folder to write what it finds in some of these scenes to, for the viewer.
        """
        torch.manual_seed(seed)
        model = self._model(kind)
        weight = 5.0 if way == "patch_aligned" else 0.0
        config = replace(self.config, patch_weight=weight, seed=seed)
        curve = self._train(model, config, seed) if way != "random" else []
        model.eval()
        found: Measures = measure(model, iter(self._batches(model, self.held_out)))
        loss = evaluation_step(
            model, self._batches(model, self.held_out), config, OneWorker()
        ).caption_loss
        values = {
            "delta_h": found.delta_entropy,
            "align": found.align,
            "cosine": found.cosine,
            "caption_loss": loss,
        }
        assert all(math.isfinite(value) for value in values.values()), values
        if maps is not None:
            self._write_maps(model, maps, way, values)
        return values, curve

    def _write_maps(
        self, model: VisionLanguageModel, folder: Path, way: str, values: dict[str, float]
    ) -> None:
        shown = self.held_out[:_NUM_MAPS]
        dictionary = words_of(self.tokenizer, {tag for example in shown for tag in example.tags})
        found = [
            image_maps(
                model,
                self.tokenizer,
                self._batches(model, [example])[0],
                example,
                threshold="otsu",
                num_iterations=5,
                dictionary=dictionary,
            )
            for example in shown
        ]
        name = way.replace("_", " ")
        measures = {
            "align": values["align"],
            "cosine": values["cosine"],
            "delta_entropy": values["delta_h"],
        }
        write_maps(folder, WAYS.index(way), name, found, threshold="otsu", measures=measures)

    def _train(
        self, model: VisionLanguageModel, config: TrainConfig, seed: int
    ) -> list[tuple[int, float]]:
        optimizer = make_optimizer(model, config)
        order = np.random.default_rng(seed)
        curve = []
        num_steps = self.size.num_steps
        model.train()
        for step in range(num_steps):
            chosen = order.choice(len(self.train), self.size.batch, replace=False)
            factor = learning_rate_factor(step, num_steps, config.warmup_share)
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
            figures = training_step(
                model,
                optimizer,
                self._batches(model, [self.train[int(i)] for i in chosen]),
                beta=beta(step, num_steps, config.patch_weight),
                config=config,
                workers=OneWorker(),
                step=step,
            )
            curve.append((step, figures.caption_loss))
        return curve

    def _model(self, kind: ProjectorKind) -> VisionLanguageModel:
        if not hasattr(self, "model"):
            vision, llm = locate("embedded", "vision"), locate("embedded", "language")
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
        return _Encoded(ours, projector)

    def _examples(self, first: int, number: int) -> list[Example]:
        return [self._example(first + index) for index in range(number)]

    def _example(self, seed: int) -> Example:
        scene: Scene = generate_scene(seed)
        height, width = scene.image.shape[:2]
        image = self.loader.image
        place = geometry(self.config.geometry, width, height, image.size)
        encoded = encode_caption(self.tokenizer, scene.caption)
        coverage = place.coverage_many([thing.mask for thing in scene.things], image.grid)
        return Example(
            id=str(seed),
            input_ids=encoded.input_ids,
            labels=encoded.labels,
            frame=place.apply(scene.image),
            coverage_RS=coverage_float32(coverage),
            tags=[thing.kind for thing in scene.things],
        )

    def _encode(self, examples: Sequence[Example]) -> list[tuple[Example, Tensor]]:
        found = []
        for start in range(0, len(examples), _IMAGES_TOGETHER):
            group = examples[start : start + _IMAGES_TOGETHER]
            pixels = self.loader.normalise([e.frame for e in group if e.frame is not None])
            found += zip(group, self.model.encode(pixels), strict=True)
        return found

    def _batches(self, model: VisionLanguageModel, examples: Sequence[Example]) -> list[Batch]:
        """The examples with their encoded patches in the place of pixels."""
        image = replace(self.loader.image, num_tokens=model.projector.num_tokens)
        loader = Loader([], self.tokenizer, self.config, image)  # type: ignore[arg-type]
        batches = []
        for start in range(0, len(examples), _IMAGES_TOGETHER):
            group = examples[start : start + _IMAGES_TOGETHER]
            patches = torch.stack([self.patches[id(example)] for example in group])
            batches.append(replace(loader.collate(group), pixels_ICHW=patches))
        return batches


class _Encoded(VisionLanguageModel):
    """A model whose batches carry patches of the tower in the place of pixels."""

    def __init__(self, whole: VisionLanguageModel, projector: Any) -> None:
        super().__init__(whole.vision, projector, whole.llm, compute_dtype=whole.compute_dtype)

    def encode(self, pixels_ICHW: Tensor) -> Tensor:
        """The patches, which are encoded already: (I, S, V)."""
        return pixels_ICHW


def _summary(values: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "mean": statistics.fmean(of_seed[name] for of_seed in values),
            "values": [of_seed[name] for of_seed in values],
        }
        for name in values[0]
    }


def _table(results: dict[str, dict[str, dict[str, Any]]]) -> list[str]:
    head = f"{'projector':14}{'trained':15}{'delta H':>9}{'Align':>9}{'cosine':>9}{'caption':>9}"
    lines = [head + "    paper: delta H / Align / cosine"]
    for kind, by_way in results.items():
        for way, found in by_way.items():
            told = PAPER.get(kind, {}).get(way, {})
            paper = " / ".join(
                f"{told[name]:.3f}" if name in told else "-"
                for name in ("delta_h", "align", "cosine")
            )
            numbers = "".join(
                f"{found[name]['mean']:9.3f}"
                for name in ("delta_h", "align", "cosine", "caption_loss")
            )
            lines.append(f"{kind:14}{way.replace('_', ' '):15}{numbers}    {paper}")
    return lines
