"""The paper's Tables 1 to 5 and 8 in miniature: three projectors in three training regimes."""

from __future__ import annotations

import json
import logging
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from rich.console import Console

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.answers import Answer
from pad_pipeline.evaluate.figure_style import png
from pad_pipeline.evaluate.loss_curves import loss_curves_figure
from pad_pipeline.progress import track
from pad_pipeline.reproduce.bench import FULL, QUICK, REGIMES, Bench
from pad_pipeline.reproduce.second_stage import FULL_SECOND, QUICK_SECOND, SecondStage
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


def reproduce(
    output: str | Path, *, quick: bool = False, console: Console | None = None
) -> list[str]:
    """Train and measure all, write `results.json` and the loss curves, return the table's lines.

    `console` shows how far it is; by default stderr.
    """
    size = QUICK if quick else FULL
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} should be a folder to write to, but it is a file")
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    bench = Bench(size)
    second = SecondStage(bench, QUICK_SECOND if quick else FULL_SECOND)
    captions: dict[str, list[list[Answer]]] = {arm: [] for arm in ARMS}
    answers: dict[str, dict[str, list[list[Answer]]]] = {
        kind: {arm: [] for arm in ARMS} for kind in _IN_STAGE_2
    }
    kinds: tuple[ProjectorKind, ...] = PAPER_PROJECTORS
    runs: dict[str, dict[str, list[dict[str, float]]]] = {
        kind: {regime: [] for regime in REGIMES} for kind in kinds
    }
    curves: dict[str, list[tuple[int, float]]] = {}
    plan = list(product(kinds, size.seeds, REGIMES))
    for kind, seed, regime in track(plan, len(plan), "training and measuring", console):
        is_shown = kind == _SHOWN and seed == size.seeds[0]
        model, values, curve = bench.run(kind, regime, seed, folder if is_shown else None)
        runs[kind][regime].append(values)
        if regime in ARMS and kind in _IN_STAGE_2:
            answers[kind][regime].append(second.answer(second.run(model, seed)))
            if kind == _SHOWN:
                captions[regime].append(_captions(bench, model))
        if curve and seed == size.seeds[0]:
            curves[f"{kind}/{regime.replace('_', ' ')}"] = curve
        logger.info(
            "%s, %s, seed %d: delta H %.3f, Align %.3f, cosine %.3f, caption loss %.3f",
            *(kind, regime.replace("_", " "), seed),
            *(values[name] for name in ("delta_h", "align", "cosine", "caption_loss")),
        )
    results = {kind: {regime: _summary(runs[kind][regime]) for regime in REGIMES} for kind in kinds}
    tables = {
        "table_4": _table_4(captions),
        "table_5": {_SHOWN: answer_row(answers[_SHOWN])},
        "table_8": {kind: where_row(found) for kind, found in answers.items()},
    }
    text = json.dumps(results | tables, indent=1) + "\n"
    storage.write_atomic(str(folder / "results.json"), text.encode())
    figure = loss_curves_figure(curves, unit="caption loss over optimiser steps, first seed")
    storage.write_atomic(str(folder / "loss_curves.png"), png(figure))
    minutes = (time.monotonic() - began) / 60
    return [
        *_table(results),
        *table_lines({_TITLES[name]: table for name, table in tables.items()}),
        "",
        f"wrote {folder}/results.json, loss_curves.png and maps/ ({minutes:.1f} min)",
    ]


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
