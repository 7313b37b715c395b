"""How the measures scale: seconds against images and vocabulary, and the memory they take.

`python benchmarks/analysis_scale.py` makes images' tokens one after the other (576 of width 4,096,
as LLaVA-1.5 7B has them) and times coverage of masks, entropy, Align and matching pursuit, float32
on one CPU thread (with more, they wait for each other where other programs run). Making the tokens
is not timed. Memory is the growth of the process's peak over one measurement; each runs in a
process of its own.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import common
import numpy as np
import torch
from torch import Tensor

NUM_TOKENS, WIDTH, GRID, NUM_REGIONS = 576, 4096, 24, 4
VISION_WIDTH = 1024
SIZES: dict[str, list[int]] = {
    "coverage": [50, 100, 200],
    "entropy before the projector": [8, 16, 32],
    "entropy after the projector": [2, 4, 8],
    "align": [5, 10, 20],
    "pursuit": [2000, 8000, 32_000],
}
"""Images, for pursuit words of the vocabulary."""
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def main() -> None:
    """Measure one after the other, write and print."""
    parser = common.make_parser(__doc__, "analysis_scale")
    parser.add_argument("--one", nargs=2, help="(used by itself) a measure and its size")
    arguments = parser.parse_args()
    if arguments.one:
        common.say(json.dumps(measure(arguments.one[0], int(arguments.one[1]))))
        return
    machine = common.describe_machine()
    result: dict[str, Any] = {
        "what": "seconds of the measures on the CPU against images (pursuit: against words)",
        "tokens_per_image": NUM_TOKENS,
        "llm_width": WIDTH,
        "vision_width": VISION_WIDTH,
        "regions_per_image": NUM_REGIONS,
        "threads": 1,
    }
    for name, sizes in SIZES.items():
        result[name] = [start(name, size) for size in sizes]
    common.write_result(arguments.output, machine, result)


def start(name: str, size: int) -> dict[str, Any]:
    """Measure in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", name, str(size)],
        check=True, capture_output=True, text=True, env={**os.environ, **ONE_THREAD},
    )  # fmt: skip
    return json.loads(done.stdout)


def measure(name: str, size: int) -> dict[str, Any]:
    """One measure at one size."""
    match name:
        case "coverage":
            return coverage(size)
        case "align":
            return align(size)
        case "pursuit":
            return pursuit(size)
        case "entropy before the projector":
            return entropy(size, VISION_WIDTH)
    return entropy(size, WIDTH)


def coverage(num_images: int) -> dict[str, Any]:
    """Masks of 640 × 480 pixels onto 24 × 24 patches through the centre crop."""
    from pad_pipeline.geometry import geometry

    frame = geometry("crop", 640, 480, 336)
    y, x = np.mgrid[:480, :640]
    masks = [
        (x - 130 * number) ** 2 + (y - 100 * number) ** 2 < (40 * number + 40) ** 2
        for number in range(1, NUM_REGIONS + 1)
    ]
    frame.coverage_many(masks, GRID)

    def run() -> None:
        for _ in range(num_images):
            frame.coverage_many(masks, GRID)

    return {"images": num_images, **timed(run, num_images)}


def entropy(num_images: int, width: int) -> dict[str, Any]:
    """Adding the tokens, and the eigenvalues at the end, the same for any number of images."""
    from pad_pipeline.evaluate.measures.entropy import EntropyMeter

    meter = EntropyMeter()
    found = summed(meter.add, images(num_images, width), num_images)
    if num_images == max(SIZES["entropy after the projector"]) or width < WIDTH:
        began = time.perf_counter()
        _ = meter.value
        found["eigenvalues_s"] = round(time.perf_counter() - began, 3)
    return {"images": num_images, **found}


def align(num_images: int) -> dict[str, Any]:
    """Align under all four thresholds and the cosine."""
    from pad_pipeline.evaluate.measures.alignment import AlignmentMeter, CosineMeter

    meter, cosine = AlignmentMeter(), CosineMeter()
    make = torch.Generator().manual_seed(1)
    labels_RD = torch.randn(NUM_REGIONS, WIDTH, generator=make)
    covered_RP = torch.rand(NUM_REGIONS, NUM_TOKENS, generator=make) > 0.8

    def add(tokens_PD: Tensor) -> None:
        meter.add(tokens_PD, labels_RD, covered_RP)
        cosine.add(tokens_PD, labels_RD, covered_RP)

    return {"images": num_images, **summed(add, images(num_images, WIDTH), num_images)}


def pursuit(num_words: int) -> dict[str, Any]:
    """One image, five iterations."""
    from pad_pipeline.evaluate.measures.pursuit import matching_pursuit

    make = torch.Generator().manual_seed(2)
    vocabulary_WD = torch.randn(num_words, WIDTH, generator=make)
    matching_pursuit(torch.randn(8, WIDTH, generator=make), vocabulary_WD[:256], num_iterations=1)
    found = summed(
        lambda tokens_PD: matching_pursuit(tokens_PD, vocabulary_WD), images(1, WIDTH), 1
    )
    products = 2 * 5 * NUM_TOKENS * num_words * WIDTH
    return {
        "words": num_words,
        "iterations": 5,
        **found,
        "gflop_per_s": round(products / found["seconds"] / 1e9, 1),
    }


def images(number: int, width: int) -> Iterator[Tensor]:
    """The tokens of one image after the other, (576, width) float32."""
    make = torch.Generator().manual_seed(0)
    for _ in range(number):
        yield torch.randn(NUM_TOKENS, width, generator=make)


def summed(add: Callable[[Tensor], object], tokens: Iterator[Tensor], number: int) -> dict:
    """Seconds inside of `add` alone."""
    before, seconds = peak_mib(), 0.0
    for tokens_PD in tokens:
        began = time.perf_counter()
        add(tokens_PD)
        seconds += time.perf_counter() - began
    return usage(seconds, number, before)


def timed(run: Callable[[], None], number: int) -> dict[str, Any]:
    """Seconds of the whole."""
    before, began = peak_mib(), time.perf_counter()
    run()
    return usage(time.perf_counter() - began, number, before)


def usage(seconds: float, number: int, before_mib: float) -> dict[str, Any]:
    """Seconds in all and per image, and how far the peak of the memory rose."""
    return {
        "seconds": round(seconds, 4),
        "ms_per_image": round(1000 * seconds / number, 2),
        "peak_memory_growth_mib": round(peak_mib() - before_mib, 1),
    }


def peak_mib() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
