"""The experiments that the paper leaves open, on generated scenes: one command each, and a report.

The weight of the patch loss, the patch loss alone, other projectors, another language model with a
tokenizer of another kind, and whether matching pursuit names what a patch shows.
"""

from __future__ import annotations

import logging
import math
import shutil
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.evaluate.analysis import measure
from pad_pipeline.evaluate.named_patches import measure_named_patches
from pad_pipeline.evaluate.scoring.captions import score_captions
from pad_pipeline.progress import track
from pad_pipeline.reproduce.bench import (
    FULL,
    QUICK,
    Arm,
    Bench,
    Size,
    Tokenizer,
    held_out_captions,
    training_captions,
)
from pad_pipeline.reproduce.byte_level_llm import byte_level_llm
from pad_pipeline.reproduce.plan import WorkOnRay, work
from pad_pipeline.reproduce.report import write_report
from pad_pipeline.train.choices import PAPER_PROJECTORS
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.step import evaluation_step

logger = logging.getLogger(__name__)

Experiment = Literal["beta", "patch-only", "projectors", "llms", "pursuit"]

_CAPTIONS = Arm(name="captions alone", patch_weight=0.0)
_BOTH = Arm(name="patch-aligned")
ARMS: dict[Experiment, tuple[Arm, ...]] = {
    "beta": (
        Arm(name="β 0", patch_weight=0.0),
        *(Arm(name=f"β to {weight:g}", patch_weight=weight) for weight in (0.5, 1.0, 2.5, 5.0)),
        Arm(name="β 5 throughout", is_ramped=False),
    ),
    "patch-only": (
        _CAPTIONS,
        Arm(name="patch loss alone", caption_weight=0.0, is_ramped=False),
        _BOTH,
    ),
    "projectors": tuple(
        Arm(name=f"{kind}, {name}", kind=kind, patch_weight=weight)
        for kind in PAPER_PROJECTORS
        for name, weight in (("captions alone", 0.0), ("patch-aligned", 5.0))
    ),
    "llms": tuple(
        Arm(
            name=f"{kind}, {tokenizer}, {name}",
            kind=kind,
            tokenizer=tokenizer,
            patch_weight=weight,
        )
        for tokenizer in ("sentencepiece", "byte-level")
        for kind in ("linear", "mlp", "c-abstractor")
        for name, weight in (("captions alone", 0.0), ("patch-aligned", 5.0))
    ),
    "pursuit": (Arm(name="random", is_trained=False), _CAPTIONS, _BOTH),
}
"""What each experiment compares; the first with no patch loss is the baseline of its projector."""

NUM_ITERATIONS = 5
LEAST_ALIGN, MOST_WITHOUT_WORD = 0.15, 0.5


def run_experiment(
    name: Experiment, output: str, *, quick: bool = False, work_on_ray: WorkOnRay | None = None
) -> list[str]:
    """Train and measure every arm over the seeds; writes results.json and report.html.

    Captions are scored where there is a Java runtime. Returns the table's lines. `work_on_ray`
    works on several arms at once (see `on_ray`); without it this process trains one after the
    other. Raises `UserError` where `output` is a file.
    """
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} should be a folder to write to, but it is a file")
    folder.mkdir(parents=True, exist_ok=True)
    size = QUICK if quick else FULL
    llms: dict[Tokenizer, dict[str, bytes]] = {"sentencepiece": {}}
    if any(arm.tokenizer == "byte-level" for arm in ARMS[name]):
        llms["byte-level"], _ = byte_level_llm(training_captions(size))
    truth = held_out_captions(size) if shutil.which("java") is not None else []
    plan = list(product(ARMS[name], size.seeds))
    rows: dict[tuple[Arm, int], dict[str, float]] = {}
    done = work(partial(_prepare, size, llms, bool(truth)), plan, work_on_ray)
    for (arm, seed), (values, captions) in track(done, len(plan), "training and measuring"):
        rows[arm, seed] = values | (score(captions, truth) if truth else {})
        logger.info(
            "%s, seed %d: Align %.3f, caption loss %.3f",
            *(arm.name, seed, values["align"], values["caption_loss"]),
        )
    results: dict[str, Any] = {
        "experiment": name,
        "num_scenes": size.num_scenes,
        "num_held_out": size.num_held_out,
        "num_steps": size.num_steps,
        "seeds": list(size.seeds),
        "arms": {
            arm.name: summarise([rows[arm, seed] for seed in size.seeds]) for arm in ARMS[name]
        },
    }
    results["signatures"] = failure_signatures(ARMS[name], results["arms"])
    storage.write_json(str(folder / "results.json"), results)
    write_report(results, folder / "report.html")
    return [*results_table(results), f"wrote {folder}/results.json and report.html"]


def _prepare(
    size: Size, llms: Mapping[Tokenizer, Mapping[str, bytes]], with_captions: bool
) -> Callable[[tuple[Arm, int]], tuple[dict[str, float], list[str]]]:
    """A bench for each language model, whose files are given; the embedded one needs none."""
    benches = {}
    for tokenizer, files in llms.items():
        with tempfile.TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            benches[tokenizer] = Bench(size, folder) if files else Bench(size)
    return partial(_measure, benches, with_captions)


def _measure(
    benches: Mapping[Tokenizer, Bench], with_captions: bool, task: tuple[Arm, int]
) -> tuple[dict[str, float], list[str]]:
    """The measures of an arm, and its captions of the held-out scenes if they are wanted."""
    arm, seed = task
    bench = benches[arm.tokenizer]
    model = bench.train_arm(arm, seed)
    return measure_arm(bench, model), bench.caption(model) if with_captions else []


@torch.no_grad()
def measure_arm(bench: Bench, model: VisionLanguageModel) -> dict[str, float]:
    """The measures of a trained projector on held-out scenes."""
    batches = bench.held_out_batches(model)
    measures = measure(model, iter(batches))
    loss = evaluation_step(model, batches, bench.config, OneWorker()).caption_loss
    return {
        "align": measures.align,
        "cosine": measures.cosine,
        "delta_h": measures.delta_entropy,
        "caption_loss": loss,
        **measure_named_patches(model, batches, NUM_ITERATIONS),
    }


def score(captions: list[str], truth: Sequence[str]) -> dict[str, float]:
    """METEOR, ROUGE-L and CIDEr of captions of the held-out scenes."""
    metrics = score_captions(captions, [[each] for each in truth]).metrics
    return {name: metrics[name].value for name in ("METEOR", "ROUGE_L", "CIDEr")}


def failure_signatures(
    arms: Sequence[Arm], found: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> dict[str, list[str]]:
    """The names of the failures that each arm shows; an arm without one is left out."""
    signatures: dict[str, list[str]] = {}
    for arm in arms:
        values = {name: each["mean"] for name, each in found[arm.name].items()}
        baseline = next(
            (
                other
                for other in arms
                if (other.kind, other.tokenizer) == (arm.kind, arm.tokenizer)
                and not other.patch_weight
                and other.is_trained
            ),
            None,
        )
        names = []
        if values["align"] < LEAST_ALIGN:
            names.append(f"Align below {LEAST_ALIGN}")
        if values["without_word"] > MOST_WITHOUT_WORD:
            names.append("more than half of the labelled patches without a word")
        if baseline not in (None, arm) and arm.is_trained and "METEOR" in values:
            below = [
                name
                for name in ("METEOR", "ROUGE_L", "CIDEr")
                if values[name] < found[baseline.name][name]["mean"]  # type: ignore[union-attr]
            ]
            if below:
                names.append(f"{', '.join(below)} below the baseline")
        if names:
            signatures[arm.name] = names
    return signatures


def summarise(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """Of each measure the mean over the seeds and the values."""
    assert all(math.isfinite(value) for row in rows for value in row.values()), rows
    return {
        name: {
            "mean": statistics.fmean(row[name] for row in rows),
            "values": [row[name] for row in rows],
        }
        for name in rows[0]
    }


def results_table(results: Mapping[str, Any]) -> list[str]:
    """The main measures of every arm, and the failures that show, in lines."""
    columns = [
        name
        for name in (
            "align",
            "cosine",
            "delta_h",
            "caption_loss",
            "METEOR",
            "precision_1",
            "recall_5",
        )
        if all(name in values for values in results["arms"].values())
    ]
    width = max(len(name) for name in results["arms"]) + 2
    lines = [f"{'':{width}}" + "".join(f"{name:>14}" for name in columns)]
    for name, values in results["arms"].items():
        numbers = "".join(f"{values[column]['mean']:14.3f}" for column in columns)
        lines.append(f"{name:{width}}{numbers}")
    for name, failures in results["signatures"].items():
        lines.append(f"{name}: {'; '.join(failures)}")
    return lines
