"""Each model alone, by batch size, and what `pad-pipeline plan` makes of the models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import full_size_models
import torch

from gpu_sections import chain, weights, workload
from gpu_sections.bars import find
from gpu_sections.bench import Bench, Row, Rows
from pad_pipeline.annotate.planner import propose
from pad_pipeline.annotate.probe import measure as measure_stages
from pad_pipeline.annotate.probe import sample_rows
from pad_pipeline.models.base import Runtime
from pad_pipeline.models.registry import load_detector, load_segmenter, load_tagger
from pad_pipeline.sources import list_source

BATCHES = {"segment": (8, 16, 4), "tag": (32, 128, 16), "detect": (16, 32, 8)}
TINY_BATCHES = dict.fromkeys(BATCHES, (1, 2))
PLANNED_IMAGES, TINY_IMAGES = 64, 6
ALL_IMAGES = 558_128


def rows(bench: Bench) -> Rows:
    """Batch sizes, then the plan."""
    for name, batches in (TINY_BATCHES if bench.tiny else BATCHES).items():
        for batch in batches:
            yield f"{name}, batches of {batch}", partial(measure, bench, name, batch)
    yield "plan", partial(plan, bench)


def measure(bench: Bench, name: str, batch: int) -> Row:
    """Images of one size per second; a batch that does not fit is a row as well."""
    try:
        return bench.rate(prepare(bench, bench.runtime, name, batch), batch)
    except torch.OutOfMemoryError:
        return {"out_of_memory": True}


def prepare(bench: Bench, runtime: Runtime, name: str, batch: int) -> Callable[[], Any]:
    """One call of a model for a batch of different images of one size."""
    images = workload.pixels("uniform", batch, bench.tiny)
    match name:
        case "tag":
            return partial(load_tagger(weights.path_of(bench, "tagger"), runtime).tag, images)
        case "detect":
            tags = [workload.own_tags(image, bench.tiny) for image in images]
            path = weights.path_of(bench, "detector")
            return partial(load_detector(path, runtime, max_pairs=batch).detect, images, tags)
        case _:
            boxes = [full_size_models.four_boxes(*image.shape[:2]) for image in images]
            path = weights.path_of(bench, "segmenter")
            return partial(load_segmenter(path, runtime).segment, images, boxes)


def plan(bench: Bench) -> Row:
    """The rate that `plan` predicts for one GPU, for the images of the chain's row `uniform`."""
    config = chain.configure(bench, chain.Case("uniform"))
    number = TINY_IMAGES if bench.tiny else PLANNED_IMAGES
    with TemporaryDirectory() as folder, chain.own_tags(bench):
        for index, data in enumerate(workload.jpegs("uniform", number, bench.tiny)):
            (Path(folder) / f"{index}.jpg").write_bytes(data)
        probe = measure_stages(config, sample_rows(list_source(folder), number).rows)
    proposal = propose(config, probe.costs, 1, ALL_IMAGES, batch_sizes=probe.batch_sizes)
    planned = proposal.fused.images_per_s
    measured = find(bench.found, "chain", "uniform", "images_per_s")
    return {
        "planned_images_per_s": round(planned, 2),
        "planned_over_measured": round(planned / measured, 3) if measured else None,
        "costs": asdict(probe.costs),
        "batch_sizes": dict(probe.batch_sizes),
    }
