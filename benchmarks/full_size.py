"""Seconds per image of the full-size models on the CPU, beside the originals' on the same kind.

`python benchmarks/full_size.py [--threads 2] [--stages tag detect segment]`: float32, random
weights, one 640 × 480 image through our own tagger, detector (10 tags) and segmenter (4 boxes),
resizing and mask encoding included. The originals' figures are from the original code on a machine
of the same type, unbatched, float32, 2 threads.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import common
import full_size_models
import torch

from pad_pipeline.models.base import Runtime

ORIGINAL_S = {"tag": 2.15, "detect": 11.4, "segment": 56.3}
TIMED_RUNS = {"tag": 3, "detect": 3, "segment": 2}
NAMES = {"tag": "RAM Swin-L 384, 4,585 tags", "detect": "Grounding DINO Swin-T 800 × 1066, 10 tags",
         "segment": "SAM ViT-H 1024, 4 boxes"}  # fmt: skip


def main() -> None:
    """Measure one stage after another, write and print."""
    parser = common.make_parser(__doc__, "full_size")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stages", nargs="+", choices=ORIGINAL_S, default=list(ORIGINAL_S))
    arguments = parser.parse_args()
    machine = common.describe_machine()
    torch.set_num_threads(arguments.threads)
    stages = {}
    for name in arguments.stages:
        began = time.perf_counter()
        step = BUILDERS[name](Runtime())
        common.say(f"{name}: built in {time.perf_counter() - began:.1f} s")
        warm_up_s = timed(step)
        cpu_began = time.process_time()
        seconds = [timed(step) for _ in range(TIMED_RUNS[name])]
        cpu_s = (time.process_time() - cpu_began) / len(seconds)
        stages[name] = {
            "model": NAMES[name],
            "seconds_per_image": round(statistics.median(seconds), 2),
            "original_seconds_per_image": ORIGINAL_S[name],
            "share_of_original": round(statistics.median(seconds) / ORIGINAL_S[name], 3),
            # wall time well above this over the number of threads: others had the cores
            "cpu_seconds_per_image": round(cpu_s, 2),
            "runs": [round(value, 2) for value in seconds],
            "warm_up": round(warm_up_s, 2),
        }
        common.say(f"{name}: {stages[name]}")
        del step
        gc.collect()
    common.write_result(
        arguments.output,
        machine,
        {
            "what": "full-size models, random weights, float32 on the CPU, one 640 × 480 image",
            "threads": arguments.threads,
            "goal": "no stage slower than the original's",
            "stages": stages,
        },
    )


def timed(step: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def _tag(runtime: Runtime) -> Callable[[], object]:
    tagger = full_size_models.build_tagger(runtime)
    image = full_size_models.photo_like(480, 640)
    return lambda: tagger.tag([image])


def _detect(runtime: Runtime) -> Callable[[], object]:
    detector = full_size_models.build_detector(runtime)
    image = full_size_models.photo_like(480, 640)
    return lambda: detector.detect([image], [full_size_models.TAGS])


def _segment(runtime: Runtime) -> Callable[[], object]:
    segmenter = full_size_models.build_segmenter(runtime)
    image = full_size_models.photo_like(480, 640)
    return lambda: segmenter.segment([image], [full_size_models.four_boxes(480, 640)])


BUILDERS = {"tag": _tag, "detect": _detect, "segment": _segment}


if __name__ == "__main__":
    main()
