"""The paper's Tables 1 to 5 and 8 in miniature: three projectors in three training regimes."""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.figure_style import png
from pad_pipeline.evaluate.loss_curves import loss_curves_figure
from pad_pipeline.evaluate.maps import ImageMaps, write_maps
from pad_pipeline.progress import track
from pad_pipeline.reproduce.bench import FULL, MAP_THRESHOLD, QUICK, REGIMES, Bench, Size
from pad_pipeline.reproduce.plan import WorkOnRay, work
from pad_pipeline.reproduce.second_stage import (
    FULL_SECOND,
    QUICK_SECOND,
    SecondSize,
    SecondStage,
)
from pad_pipeline.reproduce.tables import ARMS, answer_row, caption_row, table_lines, where_row
from pad_pipeline.train.choices import PAPER_PROJECTORS, ProjectorKind
from pad_pipeline.train.model.vlm import VisionLanguageModel

logger = logging.getLogger(__name__)

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

_TITLES = {
    "table_4": "Table 4: captions after stage 1",
    "table_5": "Table 5: where things are, and other questions, after stage 2",
    "table_8": "Table 8: where things are, by projector, after stage 2",
}
_SHOWN: ProjectorKind = "mlp"
_IN_STAGE_2: tuple[ProjectorKind, ...] = ("mlp", "c-abstractor")
"""The projectors of the paper's Table 8."""


class _Run(NamedTuple):
    """A projector trained in one regime."""

    kind: ProjectorKind
    regime: str
    seed: int

    @property
    def has_stage_2(self) -> bool:
        return self.regime in ARMS and self.kind in _IN_STAGE_2


@dataclass(frozen=True, slots=True, kw_only=True)
class _Measured:
    """What was found of a run."""

    values: dict[str, float]
    curve: list[tuple[int, float]]
    """The caption loss over the steps of stage 1."""
    answers: list[Answer]
    """After stage 2, if the run has it."""
    captions: list[Answer]
    maps: list[ImageMaps]


def reproduce(
    output: str | Path,
    *,
    quick: bool = False,
    console: Console | None = None,
    work_on_ray: WorkOnRay | None = None,
) -> list[str]:
    """Train and measure all, write `results.json` and the loss curves, return the table's lines.

    `console` shows how far it is; by default stderr. `work_on_ray` works on several projectors at
    once (see `on_ray`); without it this process trains one after the other.
    """
    size = QUICK if quick else FULL
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} should be a folder to write to, but it is a file")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    plan = [_Run(*each) for each in product(reversed(PAPER_PROJECTORS), REGIMES, size.seeds)]
    plan.sort(key=lambda run: not run.has_stage_2)  # what takes longest first
    prepare = partial(_prepare, size, QUICK_SECOND if quick else FULL_SECOND)
    found: dict[_Run, _Measured] = {}
    done = work(prepare, plan, work_on_ray)
    for run, measured in track(done, len(plan), "training and measuring", console):
        found[run] = measured
        logger.info(
            "%s, %s, seed %d: delta H %.3f, Align %.3f, cosine %.3f, caption loss %.3f",
            *(run.kind, run.regime.replace("_", " "), run.seed),
            *(measured.values[name] for name in ("delta_h", "align", "cosine", "caption_loss")),
        )
    curves = _write_maps(found, size.seeds[0], folder)
    figure = loss_curves_figure(curves, unit="caption loss over optimiser steps, first seed")
    storage.write_atomic(str(folder / "loss_curves.png"), png(figure))
    results, tables = _results(found, size.seeds)
    text = json.dumps(results | tables, indent=1) + "\n"
    storage.write_atomic(str(folder / "results.json"), text.encode())
    minutes = (time.monotonic() - began) / 60
    return [
        *_table(results),
        *table_lines({_TITLES[name]: table for name, table in tables.items()}),
        "",
        f"wrote {folder}/results.json, loss_curves.png and maps/ ({minutes:.1f} min)",
    ]


def _write_maps(
    found: Mapping[_Run, _Measured], seed: int, folder: Path
) -> dict[str, list[tuple[int, float]]]:
    """Write what the shown projector finds, for the viewer; the curves of all that were trained."""
    curves = {}
    for kind, regime in product(PAPER_PROJECTORS, REGIMES):
        first = found[_Run(kind, regime, seed)]
        name = regime.replace("_", " ")
        if first.curve:
            curves[f"{kind}/{name}"] = first.curve
        if kind == _SHOWN:
            measures = {name: first.values[name] for name in ("align", "cosine")}
            measures["delta_entropy"] = first.values["delta_h"]
            number = REGIMES.index(regime)
            write_maps(folder, number, name, first.maps, threshold=MAP_THRESHOLD, measures=measures)
    return curves


def _results(
    found: Mapping[_Run, _Measured], seeds: Sequence[int]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tables 1 to 3, by projector and regime; Tables 4, 5 and 8."""

    def of_seeds(kind: ProjectorKind, regime: str) -> list[_Measured]:
        return [found[_Run(kind, regime, seed)] for seed in seeds]

    results = {
        kind: {
            regime: _summary([each.values for each in of_seeds(kind, regime)]) for regime in REGIMES
        }
        for kind in PAPER_PROJECTORS
    }
    captions = {arm: [each.captions for each in of_seeds(_SHOWN, arm)] for arm in ARMS}
    answers = {
        kind: {arm: [each.answers for each in of_seeds(kind, arm)] for arm in ARMS}
        for kind in _IN_STAGE_2
    }
    tables = {
        "table_4": _table_4(captions),
        "table_5": {_SHOWN: answer_row(answers[_SHOWN])},
        "table_8": {kind: where_row(of_kind) for kind, of_kind in answers.items()},
    }
    return results, tables


def _prepare(size: Size, second_size: SecondSize) -> Callable[[_Run], _Measured]:
    """Draw and encode the scenes; what measures a run on them."""
    bench = Bench(size)
    return partial(_measure, bench, SecondStage(bench, second_size))


def _measure(bench: Bench, second: SecondStage, run: _Run) -> _Measured:
    model, values, curve = bench.run(run.kind, run.regime, run.seed)
    is_shown = run.kind == _SHOWN
    answers: list[Answer] = []
    if run.has_stage_2:
        after, loss = second.run(model, run.seed)
        values = values | {"stage_2_loss": loss}
        answers = second.answer(after)
    return _Measured(
        values=values,
        curve=curve,
        answers=answers,
        captions=_captions(bench, model) if is_shown and run.regime in ARMS else [],
        maps=bench.maps(model) if is_shown and run.seed == bench.size.seeds[0] else [],
    )


def _captions(bench: Bench, model: VisionLanguageModel) -> list[Answer]:
    texts = bench.caption(model)
    return [
        Answer(e.id, text, {"question_id": e.id, "references": [bench.captions[e.id]]}, "captions")
        for e, text in zip(bench.held_out, texts, strict=True)
    ]


def _table_4(captions: Mapping[str, Sequence[Sequence[Answer]]]) -> Any:
    if shutil.which("java") is None:
        return "METEOR needs Java (`java` on the PATH)"
    return {_SHOWN: caption_row(captions)}


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
    for kind, by_regime in results.items():
        for regime, found in by_regime.items():
            reported = PAPER.get(kind, {}).get(regime, {})
            paper = " / ".join(
                f"{reported[name]:.3f}" if name in reported else "-"
                for name in ("delta_h", "align", "cosine")
            )
            numbers = "".join(
                f"{found[name]['mean']:9.3f}"
                for name in ("delta_h", "align", "cosine", "caption_loss")
            )
            lines.append(f"{kind:14}{regime.replace('_', ' '):15}{numbers}    {paper}")
    return lines
