"""What chunks in flight gain: stages that sleep on a device with a queue, and the embedded models.

`python benchmarks/overlap.py [--chunks 24] [--no-ray]` gives a worker chunks whose images take some
time of a device, which does one thing at a time, and some of one thread of the host: to be decoded
before and to be written as masks afterwards. One chunk in hand takes the sum of both, several
should take the larger. The same worker then runs on Ray, from a folder to a finished data set. Last
the embedded models, which compute on the CPU itself: one chunk in hand and two, by turns.

No GPU is part of this: the times of the device are slept. The records are compared every time.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import orchestration
from PIL import Image

from pad_pipeline.annotate.run import annotate
from pad_pipeline.engine.build import build_chain
from pad_pipeline.engine.chain import Chain
from pad_pipeline.engine.config import SuppressConfig, demo
from pad_pipeline.engine.lanes import Lanes, open_lanes
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.sample import Sample, to_record
from pad_pipeline.engine.stages import (
    Decode,
    Seconds,
    detect_stage,
    segment_stage,
    suppress_stage,
    tag_stage,
)
from pad_pipeline.images import ImageLimits
from pad_pipeline.models.protocols import Boxes, Mask
from pad_pipeline.records import PadRecord, Tag
from pad_pipeline.scenes.generator import generate_scene

CHUNK_SIZE = 8
WORKLOADS_MS = {"device": (36.0, 12.0), "alike": (24.0, 24.0), "host": (12.0, 36.0)}
"""Milliseconds per image of the device and of the host, by which of them takes longer."""
SHARES = (0.06, 0.27, 0.67)
"""Shares of the device's time: RAM, Grounding DINO and SAM as on an H200, see gpu.json."""
DECODING = 0.7
"""Share of the host's time before the models; the rest writes masks."""


@dataclass(frozen=True)
class Work:
    """Seconds per image; the device has a queue, and the host one thread for pictures."""

    device_s: float
    host_s: float
    device: Executor
    host: Executor

    def on_device(self, share: float, images: Sequence[np.ndarray]) -> None:
        self.device.submit(time.sleep, share * self.device_s * len(images)).result()


@dataclass(frozen=True)
class SleepingTagger(common.NoTagger):
    work: Work

    def tag(self, images: Sequence[np.ndarray]) -> list[list[Tag]]:
        self.work.on_device(SHARES[0], images)
        return super().tag(images)


@dataclass(frozen=True)
class SleepingDetector(common.NoDetector):
    work: Work

    def detect(self, images: Sequence[np.ndarray], tags: Sequence[Sequence[str]]) -> list[Boxes]:
        self.work.on_device(SHARES[1], images)
        return super().detect(images, tags)


class SleepingSegmenter(common.NoSegmenter):
    def __init__(self, work: Work) -> None:
        super().__init__()
        self.work = work

    def segment(
        self, images: Sequence[np.ndarray], boxes_xyxy: Sequence[np.ndarray]
    ) -> list[list[Mask]]:
        self.work.on_device(SHARES[2], images)
        writing_s = (1 - DECODING) * self.work.host_s * len(images)
        self.work.host.submit(time.sleep, writing_s).result()
        return super().segment(images, boxes_xyxy)


@dataclass(frozen=True)
class SleepingDecode(Decode):
    each_s: float = 0.0

    def _decode(self, sample: Sample) -> Any:
        time.sleep(self.each_s)
        return super()._decode(sample)


def build(seconds: Seconds, *, device_ms: float, host_ms: float) -> Chain:
    """The chain of a worker, its models asleep."""
    work = Work(device_ms / 1000, host_ms / 1000, ThreadPoolExecutor(1), ThreadPoolExecutor(1))
    decode = SleepingDecode(ImageLimits(), seconds, work.host, each_s=DECODING * work.host_s)
    options: dict[str, Any] = {"batch_size": 8, "decode": decode, "seconds": seconds}
    return Chain(
        [
            tag_stage(SleepingTagger(work), **options),
            detect_stage(SleepingDetector(work), **options),
            suppress_stage(SuppressConfig(), seconds),
            segment_stage(SleepingSegmenter(work), **options),
        ]
    )


def main() -> None:
    """Measure, write and print."""
    parser = common.make_parser(__doc__, "overlap")
    parser.add_argument("--chunks", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=5, help="of everything, by turns")
    parser.add_argument("--no-ray", action="store_true", help="leave out the runs on Ray")
    arguments = parser.parse_args()
    machine = common.describe_machine()
    result: dict[str, Any] = {
        "what": "chunks in flight; a device that sleeps (no GPU), and the embedded models on a CPU",
        "chunk_size": CHUNK_SIZE,
        "workers": {name: measure_worker(name, arguments) for name in WORKLOADS_MS},
    }
    if not arguments.no_ray:
        result["on_ray"] = measure_on_ray(arguments)
    result["embedded_models_on_cpu"] = measure_embedded(arguments.repeats)
    common.write_result(arguments.output, machine, result)


def measure_worker(name: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds per image of one worker with 1, 2 and 3 chunks in hand; medians."""
    device_ms, host_ms = WORKLOADS_MS[name]
    data = common.tiny_jpeg(0)
    chunks = [
        [Sample(image_id=f"{chunk}-{k}", uri="", data=data) for k in range(CHUNK_SIZE)]
        for chunk in range(arguments.chunks)
    ]
    make = partial(build, device_ms=device_ms, host_ms=host_ms)
    records: list[list[PadRecord]] = []
    spent_ms: dict[int, list[float]] = {1: [], 2: [], 3: []}
    for _ in range(arguments.repeats):
        for in_flight, times in spent_ms.items():
            spent_s, of_run = through_lanes(open_for(make, in_flight), chunks, in_flight)
            records.append(of_run)
            times.append(1000 * spent_s / (len(chunks) * CHUNK_SIZE))
    assert all(of_run == records[0] for of_run in records)
    found: dict[str, Any] = {"device_ms_per_image": device_ms, "host_ms_per_image": host_ms}
    for in_flight, times in spent_ms.items():
        ms = statistics.median(times)
        found[f"{in_flight}_in_flight"] = {
            "ms_per_image": round(ms, 2),
            "of_the_larger": round(ms / max(device_ms, host_ms), 3),
            "of_the_sum": round(ms / (device_ms + host_ms), 3),
        }
    common.say(f"{name}: {found}")
    return found


def open_for(make: Callable[[Seconds], Chain], number: int) -> Lanes:
    """The lanes of a worker that nobody watches."""
    return Lanes(open_lanes(make, number, lambda seconds: lambda *work: None))


def through_lanes(
    lanes: Lanes, chunks: Sequence[Sequence[Sample]], in_flight: int
) -> tuple[float, list[PadRecord]]:
    """Seconds from the first chunk to the last, and all records in order."""

    def run(chunk: Sequence[Sample]) -> list[PadRecord]:
        with lanes.take() as use:
            done = use.lane.stage([replace(sample) for sample in chunk])
            return [to_record(sample) for sample in done]

    began_s = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as threads:
        records = [record for chunk in threads.map(run, chunks) for record in chunk]
    assert all(record.status == "ok" for record in records)
    return time.perf_counter() - began_s, records


def measure_on_ray(arguments: argparse.Namespace) -> dict[str, Any]:
    """Images per second of whole runs, from a tar to a data set, at 1 and 2 chunks in flight."""
    device_ms, host_ms = WORKLOADS_MS["device"]
    num_images = CHUNK_SIZE * arguments.chunks * 2
    rates, shards = {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        common.write_tiny_images(folder / "images.tar", num_images)
        orchestration.start_ray()
        for in_flight in (1, 2):
            spec = StageSpec(
                name="annotate",
                make=partial(build, device_ms=device_ms, host_ms=host_ms),
                pool=common.no_op_stages("fused")[0].pool,
                keep_bytes=False,
                in_flight=in_flight,
            )
            output = folder / f"out-{in_flight}"
            config = common.no_op_config(chunk_size=CHUNK_SIZE)
            report = annotate(str(folder / "images.tar"), str(output), config, stages=[spec])
            rates[in_flight] = report.images_per_s
            shards.append([path.read_bytes() for path in sorted(output.glob("*.parquet"))])
    assert shards[0] == shards[1]
    return {
        "images": num_images,
        "images_per_s": {f"{n}_in_flight": round(rate, 1) for n, rate in rates.items()},
        "images_per_s_of_the_larger": round(1000 / max(device_ms, host_ms), 1),
        "images_per_s_of_the_sum": round(1000 / (device_ms + host_ms), 1),
        "gain": round(rates[2] / rates[1], 3),
    }


def measure_embedded(repeats: int) -> dict[str, Any]:
    """The embedded chain on this CPU: seconds of four chunks with one and with two in hand."""
    config = replace(demo(), device="cpu", dtype="float32")
    chunks: list[list[Sample]] = []
    for seed in range(4):
        file = io.BytesIO()
        Image.fromarray(generate_scene(seed).image).save(file, "PNG")
        data = file.getvalue()
        chunks.append([Sample(image_id=f"{seed}-{k}", uri="", data=data) for k in range(8)])
    lanes = open_for(partial(build_chain, config), 2)
    through_lanes(lanes, chunks[:2], 2)
    spent: dict[int, list[float]] = {1: [], 2: []}
    records = []
    for repeat in range(repeats):
        for in_flight in (1, 2) if repeat % 2 else (2, 1):
            spent_s, of_run = through_lanes(lanes, chunks, in_flight)
            spent[in_flight].append(spent_s)
            records.append(of_run)
    assert all(of_run == records[0] for of_run in records)
    pairs = [one / two for one, two in zip(spent[1], spent[2], strict=True)]
    return {
        "images": 32,
        "threads": config.threads or os.cpu_count(),
        "seconds": {f"{n}_in_flight": [round(s, 2) for s in of] for n, of in spent.items()},
        "gain_of_two": round(statistics.median(pairs), 3),
    }


if __name__ == "__main__":
    main()
