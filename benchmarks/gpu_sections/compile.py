"""What `--compile` costs before the first image and gains after it, model by model."""

from __future__ import annotations

import os
import time
from functools import partial

from gpu_sections.bench import Bench, Row, Rows
from gpu_sections.stages import prepare
from pad_pipeline.models.base import Runtime

BATCHES = {"detect": 16, "tag": 32, "segment": 8}


def rows(bench: Bench, cache: str) -> Rows:
    """Each model with torch's cache of compiled code `cold` (a new folder) or `warm` (the same)."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(bench.models / "compiled")
    for name in BATCHES:
        yield f"{name}, {cache}", partial(measure, bench, name)


def measure(bench: Bench, name: str) -> Row:
    """Seconds of the first call, and the rate beside that of the model as it is."""
    batch = 1 if bench.tiny else BATCHES[name]
    plain = bench.rate(prepare(bench, bench.runtime, name, batch), batch)
    bench.free()
    call = prepare(bench, Runtime(bench.device, bench.dtype, compile=True), name, batch)
    began = time.perf_counter()
    call()
    bench.synchronise()
    first_call_s = time.perf_counter() - began
    compiled = bench.rate(call, batch)
    return {
        "first_call_s": round(first_call_s, 2),
        "images_per_s": compiled["images_per_s"],
        "without_images_per_s": plain["images_per_s"],
        "gain": round(compiled["images_per_s"] / plain["images_per_s"], 3),
    }
