"""Images per second of the full-size models on a GPU: every stage by batch size, and the chain.

`python benchmarks/gpu.py [--dtype bfloat16] [--seconds 5] [--no-compile]` needs CUDA. Random
weights, 640 × 480 images, 10 tags and 4 boxes per image; resizing and mask encoding included.
Every batch size is measured, then the chain, then what `pad-pipeline plan` measures of the same
models, and after that the chain and the best batch sizes with torch.compile, which takes minutes.
The file is written after each of these. `--profile FILE` gets what the GPU spends its time on.
`--device cpu --tiny` goes the same way with the embedded models, to see that it works.
"""

from __future__ import annotations

import argparse
import gc
import io
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import common
import full_size_models
import numpy as np
import torch
from full_size_models import FourBoxes, TenTags
from PIL import Image

from pad_pipeline.annotate.planner import propose
from pad_pipeline.annotate.probe import measure as measure_stages
from pad_pipeline.annotate.probe import sample_rows
from pad_pipeline.engine.config import SuppressConfig, paper
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import (
    Chain,
    Decode,
    Seconds,
    detect_stage,
    segment_stage,
    suppress_stage,
    tag_stage,
)
from pad_pipeline.errors import UserError
from pad_pipeline.images import ImageLimits
from pad_pipeline.models import registry
from pad_pipeline.models.base import Runtime, check_device
from pad_pipeline.models.protocols import Segmenter
from pad_pipeline.models.references import EMBEDDED
from pad_pipeline.models.registry import load_detector, load_segmenter, load_tagger
from pad_pipeline.sources import list_source

LIMIT_IMAGES_PER_S = 113
"""What an H200's measured 790 TFLOP/s in bfloat16 allow for the chain at 4 boxes per image."""

BATCHES = {"tag": (16, 32, 128), "detect": (4, 8, 16, 32), "segment": (2, 4, 8, 16)}
TINY_BATCHES = dict.fromkeys(BATCHES, (1, 2))
SIZE = (480, 640)
PLANNED_IMAGES = 64
PROFILED = {"tag": 32, "detect": 16, "segment": 8}
"""The batch size whose operations `--profile` records."""


def main() -> None:
    """Measure every setting, write and print."""
    parser = common.make_parser(__doc__, "gpu")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--seconds", type=float, default=5.0, help="time per setting")
    parser.add_argument("--chunk-size", type=int, default=paper().chunk_size)
    parser.add_argument("--threads", type=int, default=8, help="threads that decode")
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--profile", type=Path, help="file for the operations that take most")
    parser.add_argument("--tiny", action="store_true", help="the embedded models")
    arguments = parser.parse_args()
    try:
        check_device(arguments.device)
    except UserError as error:
        parser.exit(1, f"this benchmark needs a GPU: {error}\n")
    machine = common.describe_machine()
    plain = Runtime(arguments.device, arguments.dtype)
    batches = TINY_BATCHES if arguments.tiny else BATCHES
    stages = {name: sweep(name, sizes, plain, arguments) for name, sizes in batches.items()}
    chains = [measure_chain(plain, arguments)]
    result: dict[str, Any] = {
        "what": "embedded models" if arguments.tiny else "full-size models, random weights",
        "device": arguments.device,
        "dtype": arguments.dtype,
        "limit_images_per_s": LIMIT_IMAGES_PER_S,
        "goal": "the chain at half of the limit or more, within 24 GB",
        "plan": plan(plain, arguments),
        "chain": chains,
        "stages": stages,
    }
    common.write_result(arguments.output, machine, result)
    if not arguments.no_compile:
        compiled = replace(plain, compile=True)
        chains.append(measure_chain(compiled, arguments))
        common.write_result(arguments.output, machine, result)
        for name, rows in stages.items():
            rows += sweep(name, [fastest(rows)["batch"]], compiled, arguments)
        common.write_result(arguments.output, machine, result)


def fastest(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The row with the most images per second."""
    return max((row for row in rows if "images_per_s" in row), key=_rate)


def sweep(
    name: str, batches: Sequence[int], runtime: Runtime, arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """One stage at each batch size; a size that does not fit ends the sweep."""
    rows = []
    boxes = full_size_models.four_boxes(*SIZE)
    model = BUILDERS[name](runtime, arguments.tiny)
    for batch in batches:
        images = [full_size_models.photo_like(*SIZE, seed=seed) for seed in range(min(batch, 8))]
        images = [images[index % len(images)] for index in range(batch)]
        match name:
            case "tag":
                step = partial(model.tag, images)
            case "detect":
                model.max_pairs = batch
                step = partial(model.detect, images, [full_size_models.TAGS] * batch)
            case _:
                step = partial(model.segment, images, [boxes] * batch)
        at_once = min(batch, getattr(model, "max_images", None) or batch)
        row: dict[str, Any] = {"batch": batch, "at_once": at_once, "compile": runtime.compile}
        try:
            row |= measure(step, batch, runtime, arguments.seconds)
        except torch.OutOfMemoryError:
            row["out_of_memory"] = True
        common.say(f"{name}: {row}")
        rows.append(row)
        if "out_of_memory" in row:
            break
        if arguments.profile and batch == PROFILED[name]:
            profile(f"{name}, batch {batch}, {runtime}", step, arguments.profile)
    del model, step
    free(runtime)
    return rows


def profile(title: str, step: Callable[[], object], file: Path) -> None:
    """Append the operations of one step that take most of the GPU's time, and of the CPU's."""
    with torch.profiler.profile() as recorded:
        step()
    rows = recorded.key_averages()
    with file.open("a", encoding="utf-8") as out:
        for order in ("self_device_time_total", "self_cpu_time_total"):
            table = rows.table(sort_by=order, row_limit=20, max_name_column_width=60)
            out.write(f"{title}, by {order}\n{table}\n\n")


def measure(
    step: Callable[[], object], images: int, runtime: Runtime, seconds: float
) -> dict[str, Any]:
    """Images per second of a step, after two unmeasured ones, and the memory at its peak."""
    began = time.perf_counter()
    step()
    step()
    synchronise(runtime)
    warm_up_s = time.perf_counter() - began
    if runtime.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    count, began = 0, time.perf_counter()
    while count < 2 or time.perf_counter() - began < seconds:
        step()
        count += 1
    synchronise(runtime)
    spent = time.perf_counter() - began
    return {
        "images_per_s": round(count * images / spent, 2),
        "warm_up_s": round(warm_up_s, 1),
        **peak_memory(runtime),
    }


def measure_chain(runtime: Runtime, arguments: argparse.Namespace) -> dict[str, Any]:
    """All stages in one process at the preset's batch sizes: JPEG bytes in, masks out."""
    config = paper()
    seconds: Seconds = {}
    decode = Decode(ImageLimits(), seconds, ThreadPoolExecutor(arguments.threads))
    tiny = arguments.tiny
    tagger = TenTags(_tagger(runtime, tiny))
    detector = FourBoxes(_detector(runtime, tiny, max_pairs=config.detect.batch_size))
    segmenter = _segmenter(runtime, tiny)
    shared: dict[str, Any] = {"decode": decode, "seconds": seconds}
    chain = Chain(
        [
            tag_stage(tagger, batch_size=config.tag.batch_size, **shared),
            detect_stage(detector, batch_size=config.detect.batch_size, **shared),
            suppress_stage(SuppressConfig(iou_threshold=1.0), seconds),
            segment_stage(segmenter, batch_size=config.segment.batch_size, **shared),
        ]
    )
    size = 4 if tiny else arguments.chunk_size
    data = [_jpeg(full_size_models.photo_like(*SIZE, seed=seed)) for seed in range(8)]

    def step() -> None:
        samples = [Sample(image_id=str(i), uri="", data=data[i % len(data)]) for i in range(size)]
        for sample in chain(samples):
            assert sample.error is None, sample.error
            assert len(sample.masks or ()) == 4

    step()  # before the times by stage begin; it compiles too
    seconds.clear()
    row = measure(step, size, runtime, arguments.seconds)
    total = sum(seconds.values())
    row |= {
        "compile": runtime.compile,
        "chunk_size": size,
        "batch_sizes": {name: getattr(config, name).batch_size for name in BATCHES},
        "share_of_limit": round(row["images_per_s"] / LIMIT_IMAGES_PER_S, 3),
        "time_by_stage": {name: round(value / total, 3) for name, value in seconds.items()},
    }
    common.say(f"chain: {row}")
    if arguments.profile:
        profile(f"chain, {runtime}", step, arguments.profile)
    free(runtime)
    return row


def plan(runtime: Runtime, arguments: argparse.Namespace) -> dict[str, Any]:
    """What `pad-pipeline plan` measures of these models, and the rate it predicts for one GPU."""
    tiny = arguments.tiny
    config = replace(
        paper(),
        device=runtime.device,
        dtype=runtime.dtype,
        layout="fused",
        chunk_size=arguments.chunk_size,
        threads=arguments.threads,
    )
    embedded = {name: replace(getattr(config, name), model=EMBEDDED) for name in BATCHES}
    config = replace(config, suppress=SuppressConfig(iou_threshold=1.0), **embedded)
    with TemporaryDirectory() as folder, patch.multiple(registry, **_given_answers(tiny)):
        for index in range(PLANNED_IMAGES):
            pixels = full_size_models.photo_like(*SIZE, seed=index % 8)
            (Path(folder) / f"{index}.jpg").write_bytes(_jpeg(pixels))
        probe = measure_stages(config, sample_rows(list_source(folder), PLANNED_IMAGES).rows)
    proposal = propose(config, probe.costs, 1, 558_128, batch_sizes=probe.batch_sizes)
    row = {
        "costs": asdict(probe.costs),
        "batch_sizes": probe.batch_sizes,
        "trials": [asdict(trial) for trial in probe.trials],
        "fused_images_per_s": round(proposal.fused.images_per_s, 2),
    }
    common.say(f"plan: {row}")
    free(runtime)
    return row


def _given_answers(tiny: bool) -> dict[str, Callable[..., Any]]:
    """Loaders for `pad_pipeline.models.registry` that give the chain's answers."""

    def tagger(reference: str, runtime: Runtime) -> TenTags:
        return TenTags(_tagger(runtime, tiny))

    def detector(reference: str, runtime: Runtime, max_pairs: int, **options: Any) -> FourBoxes:
        return FourBoxes(_detector(runtime, tiny, max_pairs=max_pairs))

    def segmenter(reference: str, runtime: Runtime, **options: Any) -> Any:
        return _segmenter(runtime, tiny)

    return {"load_tagger": tagger, "load_detector": detector, "load_segmenter": segmenter}


def _tagger(runtime: Runtime, tiny: bool) -> Any:
    return load_tagger("embedded", runtime) if tiny else full_size_models.build_tagger(runtime)


def _detector(runtime: Runtime, tiny: bool, max_pairs: int = 8) -> Any:
    if tiny:
        return load_detector("embedded", runtime, max_pairs=max_pairs)
    return full_size_models.build_detector(runtime, max_pairs=max_pairs)


def _segmenter(runtime: Runtime, tiny: bool) -> Segmenter | Any:
    if tiny:
        return load_segmenter("embedded", runtime)
    return full_size_models.build_segmenter(runtime)


BUILDERS = {"tag": _tagger, "detect": _detector, "segment": _segmenter}


def synchronise(runtime: Runtime) -> None:
    """Wait for the GPU."""
    if runtime.device.startswith("cuda"):
        torch.cuda.synchronize()


def free(runtime: Runtime) -> None:
    """Give back what the last model held."""
    gc.collect()
    torch.compiler.reset()
    if runtime.device.startswith("cuda"):
        torch.cuda.empty_cache()


def peak_memory(runtime: Runtime) -> dict[str, float]:
    """GiB on the GPU at the peak: tensors, and all that the allocator held."""
    if not runtime.device.startswith("cuda"):
        return {}
    return {
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
        "peak_reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
    }


def _jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _rate(row: dict[str, Any]) -> float:
    return row["images_per_s"]


if __name__ == "__main__":
    main()
