"""torch.compile by blocks against the whole encoder: seconds until the first result, and the gain.

`python benchmarks/compiling.py [--device cuda --dtype bfloat16] [--limit 120]`. The embedded tagger
and segmenter, four images at a time; each row is a process of its own that is ended after `--limit`
seconds of processor time. "cold" starts with an empty cache folder, "kept" with what "cold" left.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import common
import numpy as np
import torch

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.compiling import compile_blocks
from pad_pipeline.models.ram.tagger import RamTagger
from pad_pipeline.models.registry import load_segmenter, load_tagger
from pad_pipeline.models.sam.load import repeated_blocks
from pad_pipeline.models.sam.segmenter import SamSegmenter
from pad_pipeline.scenes.generator import generate_scene

NUM_IMAGES = 4
NUM_PASSES = 12


def main() -> None:
    """Run every row, write and print."""
    parser = common.make_parser(__doc__, "compiling")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--limit", type=int, default=120)
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.row:
        common.say(json.dumps(measure(*arguments.row, Runtime(arguments.device, arguments.dtype))))
        return
    rows = []
    for row in every_row(arguments):
        common.say(json.dumps(row))
        rows.append(row)
    common.write_result(
        arguments.output,
        common.describe_machine(),
        {
            "what": f"embedded models, {NUM_IMAGES} images at a time, one thread",
            "device": arguments.device,
            "dtype": arguments.dtype,
            "limit_s": arguments.limit,
            "rows": rows,
        },
    )


def every_row(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Each model uncompiled, whole, and by blocks with an empty cache folder and a full one."""
    for model in ("tag", "segment"):
        yield run_row(arguments, model, "none", "")
        with TemporaryDirectory() as folder:
            yield run_row(arguments, model, "whole", folder)
        with TemporaryDirectory() as folder:
            for state in ("cold", "kept"):
                yield {"cache": state, **run_row(arguments, model, "blocks", folder)}


def run_row(arguments: argparse.Namespace, model: str, compiled: str, cache: str) -> dict[str, Any]:
    """One row, in a process of its own."""
    command = [sys.executable, str(Path(__file__)), "--row", model, compiled]
    command += ["--device", arguments.device, "--dtype", arguments.dtype]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHINDUCTOR_COMPILE_THREADS": "1"}
    if cache:
        environment["TORCHINDUCTOR_CACHE_DIR"] = cache
    seconds = arguments.limit
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds)),
    )  # fmt: skip
    facts = {"model": model, "compiled": compiled}
    if done.returncode < 0:
        return {**facts, "first_pass": f"not done after {seconds} s of the processor"}
    if done.returncode:
        raise RuntimeError(done.stderr)
    return {**facts, **json.loads(done.stdout.splitlines()[-1])}


def measure(model: str, compiled: str, runtime: Runtime) -> dict[str, Any]:
    """Seconds of the first pass, also of the processor and its compilers, and of later ones."""
    torch.set_num_threads(1)
    images = [generate_scene(seed).image for seed in range(NUM_IMAGES)]
    if model == "tag":
        tagger = load_tagger("embedded", runtime)
        assert isinstance(tagger, RamTagger)
        tagger.model.by_modules = compiled != "none"  # as the tagger has it
        encoder = tagger.model.visual_encoder
        blocks = [block for layer in encoder.encoder.layers for block in layer.blocks]
    else:
        segmenter = load_segmenter("embedded", runtime)
        assert isinstance(segmenter, SamSegmenter)
        encoder = segmenter.model.vision_encoder
        blocks = repeated_blocks(encoder)
    boxes = [np.array([[20, 20, 120, 120]], np.float32)] * NUM_IMAGES

    def step() -> None:
        if model == "tag":
            tagger.tag(images)
        else:
            segmenter.segment(images, boxes)

    if compiled == "blocks":
        compile_blocks(blocks)
    elif compiled == "whole":
        encoder.compile(dynamic=False)
    began, used = time.perf_counter(), processor_s()
    step()
    first = {"first_pass_s": time.perf_counter() - began, "processor_s": processor_s() - used}
    later = []
    for _ in range(NUM_PASSES):
        used = time.process_time()
        step()
        later.append(time.process_time() - used)
    return {name: round(value, 3) for name, value in {**first, "pass_s": min(later)}.items()}


def processor_s() -> float:
    """Seconds that this process and its ended children have computed."""
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return sum(one.ru_utime + one.ru_stime for one in (own, children))


if __name__ == "__main__":
    main()
