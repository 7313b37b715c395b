"""Whether matching pursuit names what a patch shows, for a run of one's own on annotated images."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import Setting, UserError
from pad_pipeline.evaluate.analysis import batches_of, measure, with_random_projector
from pad_pipeline.evaluate.held_out import choose_samples
from pad_pipeline.evaluate.named_patches import measure_named_patches
from pad_pipeline.reproduce.bench import Arm
from pad_pipeline.reproduce.experiments import (
    NUM_ITERATIONS,
    failure_signatures,
    results_table,
    summarise,
)
from pad_pipeline.reproduce.report import write_report
from pad_pipeline.review.choice import ReviewChoice, review_facts
from pad_pipeline.train.data.loader import Loader
from pad_pipeline.train.model.vlm import VisionLanguageModel
from pad_pipeline.train.run.folder import check_review, read_run
from pad_pipeline.train.run.models import load_finished_model, vision_input

_RANDOM = Arm(name="random", is_trained=False)


def run_pursuit(
    run: str,
    annotations: str,
    output: str,
    *,
    images: str | None = None,
    num_images: int = 100,
    review: ReviewChoice | None = None,
) -> list[str]:
    """Measure a finished run and a random projector; writes results.json and report.html.

    The labels of a patch are the tags of the masks that cover it by half. Of the data set that the
    run was trained on, images that it held out are taken. `review` says which marks on the
    annotations count. Returns the table's lines. Raises `UserError` where no mask covers a patch.
    """
    trained = read_run(storage.absolute(run))
    check_review(review, annotations, None)
    model, tokenizer, config = load_finished_model(trained)
    arm = Arm(name=trained.url.rstrip("/").rsplit("/", 1)[-1])
    with tempfile.TemporaryDirectory() as folder:
        chosen = choose_samples(
            trained,
            storage.absolute(annotations),
            images,
            num_images,
            Path(folder, "samples.arrow"),
            held_out=True,
            review=review,
        )
        loader = Loader(chosen.samples, tokenizer, config, vision_input(model, config.vision))
        batches = list(batches_of(loader, chosen.places))
    found = {
        _RANDOM.name: summarise([_measure(with_random_projector(model), batches, annotations)]),
        arm.name: summarise([_measure(model, batches, annotations)]),
    }
    results: dict[str, Any] = {
        "experiment": "pursuit",
        "run": trained.url,
        "annotations": storage.absolute(annotations),
        "num_images": len(chosen.places),
        "review": review_facts(review),
        "seen_in_training": chosen.seen,
        "seeds": [config.seed],
        "arms": found,
        "signatures": failure_signatures((_RANDOM, arm), found),
    }
    target = Path(output)
    target.mkdir(parents=True, exist_ok=True)
    storage.write_json(str(target / "results.json"), results)
    write_report(results, target / "report.html")
    return [*results_table(results), f"wrote {target}/results.json and report.html"]


def _measure(model: VisionLanguageModel, batches: list, annotations: str) -> dict[str, float]:
    named = measure_named_patches(model, batches, NUM_ITERATIONS)
    if math.isnan(named["without_word"]):
        raise UserError(
            f"no mask of {annotations} covers a patch by half, so there is nothing to name; give "
            "other ",
            Setting("annotations"),
        )
    measures = measure(model, iter(batches))
    return {
        "align": measures.align,
        "cosine": measures.cosine,
        "delta_h": measures.delta_entropy,
        **named,
    }
