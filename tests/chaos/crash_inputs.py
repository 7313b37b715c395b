"""Images that end their worker: by a crash, by never returning, by taking all memory."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import ray

from pad_pipeline.annotate.run import annotate
from pad_pipeline.engine import ray_session
from pad_pipeline.engine.plan import StageSpec
from pad_pipeline.engine.sample import Sample
from pad_pipeline.engine.stages import Seconds
from pad_pipeline.records import PadRecord, table_to_records
from tests import fakes
from tests.chaos.container import contain

NUM_IMAGES = 12
CRASH, HANG, MEMORY = "003.png", "006.png", "009.png"
HANG_AFTER_S = 20.0
LIMIT_BYTES = 2 << 30
"""Memory beyond what is used now at which Ray's monitor kills a worker."""
CONTAINER_BYTES = 6 << 30
CAP_BYTES = 4 << 30
"""What such an image takes at most, whether or not its worker is stopped before."""
_STEP_BYTES = 64 << 20
_STEP_S = 0.05


class CrashingStage:
    """The fake chain, which crashes, hangs or takes all memory over some images."""

    def __init__(self, seconds: Seconds, ways: dict[str, str]) -> None:
        self._chain = fakes.build_all(seconds)
        self._ways = ways

    def __call__(self, samples: list[Sample]) -> list[Sample]:
        for sample in samples:
            way = self._ways.get(sample.image_id) if sample.error is None else None
            if way == "crash":
                ctypes.string_at(0)  # a segmentation fault
            elif way == "hang":
                time.sleep(3600)
            elif way == "memory":
                _take_all_memory()
        return self._chain(samples)


def _take_all_memory() -> None:
    """Take memory slowly until the process is killed; raises `RuntimeError` where it is not."""
    taken: list[bytearray] = []
    while len(taken) * _STEP_BYTES < CAP_BYTES:
        block = bytearray(_STEP_BYTES)
        block[::4096] = b"x" * (_STEP_BYTES // 4096)
        taken.append(block)
        time.sleep(_STEP_S)
    time.sleep(5)
    raise RuntimeError(f"Ray let a worker take {CAP_BYTES >> 30} GiB")


def start_ray() -> tuple[Callable[[], None], str]:
    """Ray with a monitor that acts early: where this process may, in a container of memory.

    There, what others take on this machine does not count. Elsewhere the threshold lies
    `LIMIT_BYTES` above what is used now. Returns a function that removes the container, and the
    threshold in words.
    """
    memory = psutil.virtual_memory()
    total, used = memory.total, memory.total - memory.available
    remove = contain(CONTAINER_BYTES)
    if remove is not None:
        total, used = CONTAINER_BYTES, 2 << 30
    threshold = round((used + LIMIT_BYTES) / total, 3)
    assert threshold < 0.8, "too little memory is free on this machine"
    os.environ["RAY_memory_usage_threshold"] = str(threshold)  # noqa: SIM112
    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        object_store_memory=128 << 20,
        **ray_session._quiet(False),
    )
    limit = f"{threshold:.0%} of {total / 2**30:.1f} GiB" + (", a cgroup" if remove else "")
    return remove or (lambda: None), limit


def run_crash_inputs(place: Path, log: Callable[[str], None]) -> dict[str, Any]:
    """What a run makes of images of which three end their worker, each in a way of its own."""
    ways = {CRASH: "crash", HANG: "hang", MEMORY: "memory"}
    fakes.write_images(place / "images", NUM_IMAGES)
    config = fakes.config(max_failed_share=0.5, hang_after_s=HANG_AFTER_S)
    pool = fakes.POOL
    calm = StageSpec(name="annotate", make=fakes.build_all, pool=pool, keep_bytes=False)
    deadly = replace(calm, make=partial(CrashingStage, ways=ways))
    remove, threshold = start_ray()
    log(f"Ray's memory monitor acts at {threshold}")
    try:
        annotate(str(place / "images"), str(place / "calm"), config, stages=[calm])
        start_s = time.monotonic()
        annotate(str(place / "images"), str(place / "out"), config, stages=[deadly])
        seconds = time.monotonic() - start_s
    finally:
        ray.shutdown()
        remove()
    found = {record.image_id: record for record in _read(place / "out")}
    expected = _read(place / "calm")
    quarantined = {
        name: record.error.message
        for name, record in found.items()
        if record.error and record.error.type == "Quarantined"
    }
    others_equal = all(
        found.get(record.image_id) == record for record in expected if record.image_id not in ways
    )
    in_order = list(found) == [record.image_id for record in expected]
    return {
        "right": set(quarantined) == set(ways) and others_equal and in_order,
        "images": len(expected),
        "crash_inputs": ways,
        "quarantined": quarantined,
        "other_records_equal": others_equal,
        "every_image_once": in_order and len(_read(place / "out")) == len(expected),
        "memory_threshold": threshold,
        "seconds": round(seconds, 1),
    }


def _read(output: Path) -> list[PadRecord]:
    return table_to_records(pq.read_table(output))
