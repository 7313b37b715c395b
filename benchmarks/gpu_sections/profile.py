"""Where the GPU's time goes: kernels by kind, their number, and how much of the time none runs."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from gpu_sections import chain, encoder, weights, workload
from gpu_sections.bench import Bench, Row, Rows
from gpu_sections.detector import build as build_detector
from pad_pipeline.models.registry import load_tagger

GROUPS = (
    ("products", r"gemm|gemv|cutlass|cublas|wgmma|nvjet|xmma|addmm|aten::mm|aten::bmm|convolution"),
    ("attention", r"attention|fmha|flash|windows_kernel|images_kernel|terms_kernel|sdpa"),
    ("points", r"sample_points|deform"),
    ("norms", r"norm"),
    ("copies", r"copy|memcpy|memset|cat|index|gather|scatter|nonzero|fill"),
    ("resizing", r"upsample|interpolate|resize"),
)
"""Kinds of kernels, the first whose pattern a name has; what none has is `rest`."""

BATCHES = {"tagger": 32, "detector": 16, "encoder": 8}
LONGEST_NAMES = 8


def rows(bench: Bench) -> Rows:
    """Passes of the two large models, a chunk of the chain, then RAM."""
    yield "detector, one pass", partial(detector_pass, bench)
    yield "segmenter's encoder, one pass", partial(encoder_pass, bench)
    yield "chain, web", partial(chunk_of_chain, bench)
    yield "tagger, one pass", partial(tagger_pass, bench)


def detector_pass(bench: Bench) -> Row:
    """Resizing included; `kernels_of_pixels` is that part."""
    batch = 1 if bench.tiny else BATCHES["detector"]
    detector = build_detector(bench, max_pairs=batch)
    images = workload.pixels("uniform", batch, bench.tiny)
    tags = [workload.own_tags(image, bench.tiny) for image in images]
    row = profile(bench, lambda: detector.detect(images, tags))
    of_pixels = profile(bench, lambda: detector.pixels(images))["kernels"]
    return row | {"images": batch, "kernels_of_pixels": of_pixels}


def encoder_pass(bench: Bench) -> Row:
    """Of the encoder alone, from normalised pixels to the embedding."""
    batch = 1 if bench.tiny else BATCHES["encoder"]
    model, pixels = encoder.chosen(bench), encoder.draw(bench, batch)
    return profile(bench, lambda: encoder.embed(model, pixels)) | {"images": batch}


def tagger_pass(bench: Bench) -> Row:
    """Resizing included."""
    batch = 1 if bench.tiny else BATCHES["tagger"]
    tagger = load_tagger(weights.path_of(bench, "tagger"), bench.runtime)
    images = workload.pixels("uniform", batch, bench.tiny)
    return profile(bench, lambda: tagger.tag(images)) | {"images": batch}


def chunk_of_chain(bench: Bench) -> Row:
    """One chunk of mixed sizes: `gpu_share` is what the chain could gain by waiting less."""
    config = chain.configure(bench, chain.Case("web"))
    data = workload.jpegs("web", config.chunk_size, bench.tiny)
    worker = chain.Worker(bench, replace(config, in_flight=1))
    return profile(bench, lambda: worker.annotate(data)) | {"images": len(data)}


def profile(bench: Bench, call: Callable[[], object]) -> Row:
    """Milliseconds by kind of kernel, or of CPU operators where there is no GPU."""
    call()
    bench.synchronise()
    kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * bench.on_gpu
    with torch.profiler.profile(activities=kinds) as recorded:
        began = time.perf_counter()
        call()
        bench.synchronise()
        wall_ms = 1000 * (time.perf_counter() - began)
    device = DeviceType.CUDA if bench.on_gpu else DeviceType.CPU
    groups: dict[str, float] = defaultdict(float)
    names: dict[str, float] = defaultdict(float)
    kernels = 0
    for event in recorded.key_averages():
        spent = event.self_device_time_total if bench.on_gpu else event.self_cpu_time_total
        if event.device_type != device or not spent:
            continue
        groups[group_of(event.key)] += spent / 1000
        names[event.key[:70]] += spent / 1000
        if not event.key.lower().startswith(("memcpy", "memset")):
            kernels += event.count
    busy_ms = sum(groups.values())
    longest = sorted(names.items(), key=lambda entry: -entry[1])[:LONGEST_NAMES]
    return {
        "wall_ms": round(wall_ms, 2),
        "kernels": kernels,
        "kernels_ms": round(busy_ms, 2),
        "gpu_share": round(busy_ms / wall_ms, 3) if bench.on_gpu else None,
        "by_kind_ms": {name: round(value, 3) for name, value in sorted(groups.items())},
        "longest_ms": {name: round(value, 3) for name, value in longest},
    }


def group_of(name: str) -> str:
    """The kind of a kernel, by its name."""
    for group, pattern in GROUPS:
        if re.search(pattern, name.lower()):
            return group
    return "rest"
