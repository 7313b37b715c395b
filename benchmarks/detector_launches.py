"""Launches per pass of Grounding DINO at its released size, and seconds on the CPU by turns.

`python benchmarks/detector_launches.py [--before CHECKOUT]`: launches are counted on tensors that
hold no numbers, for 16 images of one size that have their own tags, once with nothing kept from
earlier passes and once with everything. With a checkout of an earlier version, a process of either
version detects the same images by turns: eight drawn scenes with the embedded model, and one
640 × 480 image with ten tags at full size, float32.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import common
import torch

from pad_pipeline.models.base import Runtime

ROOT = Path(__file__).parents[1]
ROUNDS = {"embedded": 9, "full size": 5}


def main() -> None:
    """Count, measure where there is something to compare with, write and print."""
    parser = common.make_parser(__doc__, "detector_launches")
    parser.add_argument("--before", type=Path, help="checkout of the version to compare with")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--worker", choices=ROUNDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.worker:
        work(arguments.worker)
        return
    machine = common.describe_machine()
    result: dict[str, Any] = {"goal": "at most 700 launches a pass", "launches": count()}
    common.say(json.dumps(result, indent=1))
    if arguments.before:
        result["seconds"] = {
            name: by_turns(name, arguments.before, arguments.threads) for name in ROUNDS
        }
        result["threads"] = arguments.threads
    common.write_result(arguments.output, machine, result)


def count() -> dict[str, dict[str, int]]:
    """Launches by part of a pass: the first one of a process, and one whose constants are kept."""
    sys.path.insert(0, str(ROOT))
    from tests.models.grounding_dino.meta_pass import count_launches, meta_detector

    detector = meta_detector()
    counts = {}
    for name in ("first pass", "pass of known sizes and tags"):
        parts = count_launches(detector, (800, 1066))
        counts[name] = {part: counter.total for part, counter in parts.items()}
        counts[name]["total"] = sum(counts[name].values())
    return counts


def by_turns(name: str, before: Path, threads: int) -> dict[str, Any]:
    """CPU seconds of a step of either version, each in a process that has warmed up."""
    workers = {label: start(name, root, threads) for label, root in
               (("before", before), ("now", ROOT))}  # fmt: skip
    seconds: dict[str, list[float]] = {label: [] for label in workers}
    for _ in range(ROUNDS[name]):
        for label, worker in workers.items():
            assert worker.stdin is not None
            assert worker.stdout is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
            seconds[label].append(json.loads(worker.stdout.readline()))
    for worker in workers.values():
        worker.communicate()
    medians = {label: statistics.median(values) for label, values in seconds.items()}
    row = {
        "cpu_seconds": {label: [round(value, 3) for value in seconds[label]] for label in seconds},
        "now_over_before": round(medians["now"] / medians["before"], 3),
    }
    common.say(f"{name}: {row}")
    return row


def start(name: str, root: Path, threads: int) -> subprocess.Popen[str]:
    """A process that runs a step of the version in `root` whenever it reads a line."""
    command: Sequence[str] = [
        sys.executable, __file__, "--worker", name, "--threads", str(threads),
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(root.resolve())}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)


def work(name: str) -> None:
    """Run steps and print the CPU seconds that each takes."""
    step = _embedded() if name == "embedded" else _full_size()
    step()
    for _ in sys.stdin:
        began = time.process_time()
        step()
        common.say(json.dumps(time.process_time() - began))


def _embedded() -> Callable[[], object]:
    from pad_pipeline.models.registry import load_detector
    from pad_pipeline.scenes.generator import KINDS, generate_scene

    detector = load_detector("embedded", Runtime())
    images = [generate_scene(seed).image for seed in range(8)]
    tags = [KINDS[seed % 5 : seed % 5 + 8] for seed in range(8)]
    return lambda: detector.detect(images, tags)


def _full_size() -> Callable[[], object]:
    import full_size_models

    detector = full_size_models.build_detector(Runtime())
    image = full_size_models.photo_like(480, 640)
    return lambda: detector.detect([image], [full_size_models.TAGS])


if __name__ == "__main__":
    main()
