"""What Ray costs: the pipeline's rate beside the stages' own, with the embedded models.

`python benchmarks/efficiency.py [--num-images 2000] [--layouts fused pools]` annotates scenes on
Ray. Before, between and after the runs a process without Ray takes every stage by itself through
part of the same images, in the same chunks and with the same number of threads, and so does an
in-process run of all stages. The stages' rates make a harmonic sum, the rate that a pipeline on
these cores cannot pass: 1 / (1/decode + 1/tag + 1/detect + 1/suppress + 1/segment). Efficiency is
the pipeline's rate over that of the two measurements beside it.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import fmean
from typing import Any

import common
from PIL import Image

GOAL = 0.9
FIRST_SEED = 20_000_000
CORES = 2


def main() -> None:
    """Measure alternately, write and print."""
    parser = common.make_parser(__doc__, "efficiency")
    parser.add_argument("--num-images", type=int, default=2000)
    parser.add_argument("--alone-images", type=int, default=320)
    parser.add_argument("--layouts", nargs="+", default=["fused", "pools"])
    parser.add_argument("--alone", type=Path, help="(used by itself) a folder to measure alone")
    arguments = parser.parse_args()
    if arguments.alone:
        common.say(json.dumps(measure_alone(arguments.alone, arguments.alone_images)))
        return
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = folder / "images"
        draw(images, arguments.num_images)
        from orchestration import start_ray

        start_ray()
        alone = [start_alone(images, arguments.alone_images)]
        runs = {}
        for layout in arguments.layouts:
            run = run_pipeline(images, folder / layout, layout)
            alone.append(start_alone(images, arguments.alone_images))
            beside = fmean(measured["harmonic_sum_images_per_s"] for measured in alone[-2:])
            run["harmonic_sum_images_per_s"] = round(beside, 2)
            run["efficiency"] = round(run["images_per_s"] / beside, 3)
            runs[layout] = run
            common.say(f"{layout}: {run}")
    common.write_result(
        arguments.output,
        machine,
        {
            "what": "embedded models on Ray beside the same stages without Ray, float32",
            "num_images": arguments.num_images,
            "goal_efficiency": GOAL,
            **runs,
            "alone": alone,
        },
    )


def draw(folder: Path, number: int) -> None:
    """Scenes that training never saw, as JPEG files."""
    from pad_pipeline.scenes.generator import generate_scene

    folder.mkdir()
    for index in range(number):
        buffer = io.BytesIO()
        scene = generate_scene(FIRST_SEED + index)
        Image.fromarray(scene.image).save(buffer, "JPEG", quality=90)
        (folder / f"{index:06d}.jpg").write_bytes(buffer.getvalue())


def run_pipeline(images: Path, output: Path, layout: str) -> dict[str, Any]:
    """A whole run on Ray; the rate as the program reports it."""
    from dataclasses import replace

    from pad_pipeline.annotate.run import annotate
    from pad_pipeline.engine.config import demo

    began = time.perf_counter()
    report = annotate(str(images), str(output), replace(demo(), layout=layout, device="cpu"))
    return {
        "images_per_s": round(report.images_per_s, 2),
        "wall_s": round(time.perf_counter() - began, 1),
        "regions_per_image": round(report.num_regions / report.num_images, 2),
        "seconds_by_stage": {name: round(s, 1) for name, s in report.seconds_by_stage.items()},
    }


def start_alone(images: Path, number: int) -> dict[str, Any]:
    """`measure_alone` in a process of its own, which ends before anything else goes on."""
    command = [sys.executable, __file__, "--alone", str(images), "--alone-images", str(number)]
    plain = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=plain)
    measured = json.loads(done.stdout.splitlines()[-1])
    common.say(f"alone: {measured}")
    return measured


def measure_alone(folder: Path, number: int) -> dict[str, Any]:
    """Images per second of decoding and of every stage by itself, and their harmonic sum."""
    from dataclasses import replace

    from pad_pipeline.annotate.annotator import to_sample
    from pad_pipeline.engine.build import build_stage
    from pad_pipeline.engine.config import STAGE_NAMES, demo
    from pad_pipeline.engine.device import resolve_device
    from pad_pipeline.engine.stages import Decode, Seconds
    from pad_pipeline.images import ImageLimits

    config = resolve_device(replace(demo(), device="cpu"))
    seconds: Seconds = {}
    stages = {name: build_stage(config, name, seconds) for name in STAGE_NAMES}
    limits = ImageLimits(max_pixels=config.max_pixels, max_bytes=config.max_bytes)
    # spread over all the images, so that the part is like the whole
    paths = sorted(folder.iterdir())
    paths = paths[:: max(1, len(paths) // number)][:number]
    samples = [to_sample(index, str(path)) for index, path in enumerate(paths)]
    size = config.chunk_size
    chunks = [samples[start : start + size] for start in range(0, len(samples), size)]
    steps = {"decode": Decode(limits, seconds, ThreadPoolExecutor(CORES)), **stages}
    for _ in range(2):
        warm_up = [to_sample(index, str(path)) for index, path in enumerate(paths[:size])]
        for step in steps.values():
            step(warm_up)
    spent = {}
    for name, step in steps.items():
        began = time.perf_counter()
        for chunk in chunks:
            step(chunk)
        spent[name] = time.perf_counter() - began
    failed = [sample.error for sample in samples if sample.error]
    assert not failed, failed[0]
    return {
        "images": len(samples),
        "images_per_s": {name: round(len(samples) / value, 1) for name, value in spent.items()},
        "harmonic_sum_images_per_s": round(len(samples) / sum(spent.values()), 2),
    }


if __name__ == "__main__":
    main()
