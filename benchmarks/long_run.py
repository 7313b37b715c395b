"""LLaVA's 558,128 images through the whole engine, killed at nine tenths and started again.

`python benchmarks/long_run.py [--num-rows 558128]` lists a JSONL of that many images, all of which
are one small file under different ids and captions, and annotates them with models that do nothing
and do not decode. A process of its own is the driver; this one reads every two seconds the memory
of the driver, of Ray's head (gcs_server and raylet) and of the object store. At nine tenths it
kills the driver with SIGKILL and starts the same command again.

`driver` is what the process itself holds (heap and stacks, without libraries and shared pages).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import common
import numpy as np
import psutil

NUM_ROWS = 558_128
KILL_AT = 0.9
EVERY_S = 2.0
CAPTION = "a small picture with a caption of about the length that captions of the set have"


def main() -> None:
    """Run, kill, run again; write and print."""
    parser = common.make_parser(__doc__, "long_run")
    parser.add_argument("--num-rows", type=int, default=NUM_ROWS)
    parser.add_argument("--chunk-size", type=int, default=32)
    parser.add_argument("--driver", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.driver:
        drive(Path(arguments.driver), arguments.chunk_size)
        return
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_source(folder, arguments.num_rows)
        first = run(folder, arguments.chunk_size, kill_at=round(arguments.num_rows * KILL_AT))
        done_before = count_rows(folder)
        second = run(folder, arguments.chunk_size, kill_at=None)
        report = json.loads((folder / "output" / "_summary.json").read_text())
        sizes = [path.stat().st_size for path in (folder / "output").glob("*.parquet")]
        num_files = sum(path.is_file() for path in (folder / "output").rglob("*"))
    to_do = arguments.num_rows - done_before
    result = {
        "what": "the engine over a whole data set, models that do nothing, images not decoded",
        "num_rows": arguments.num_rows,
        "until_the_kill": summarise(first),
        "after_the_kill": summarise(second)
        | {
            "images_finished_before": done_before,
            "images_read": report["stages"]["annotate"]["images"],
            "images_left": to_do,
            "seconds_to_first_new_image": second["first_s"],
        },
        "goals": {"seconds_to_first_new_image": 60, "images_read": "images_left"},
        "failed": report["num_failed"],
        "files": {
            "number": num_files,
            "shards": len(sizes),
            "median_mb": round(float(np.median(sizes)) / 1e6, 2),
        },
    }
    assert report["stages"]["annotate"]["images"] == to_do, "finished images were opened again"
    common.write_result(arguments.output, machine, result)


def write_source(folder: Path, number: int) -> None:
    """A JSONL whose entries all name the same image file under ids of their own."""
    common.write_tiny_image(folder / "image.jpg")
    with (folder / "images.jsonl").open("w", encoding="utf-8") as file:
        for index in range(number):
            image_id = f"{index // 1000:05d}/{index:09d}.jpg"
            entry = {"image_id": image_id, "path": "image.jpg", "caption": f"{CAPTION} {index}"}
            file.write(json.dumps(entry) + "\n")


def drive(folder: Path, chunk_size: int) -> None:
    """The driver: annotates, and keeps the number of images in a file for who watches."""
    from orchestration import start_ray

    from pad_pipeline.annotate.ledger import Ledger
    from pad_pipeline.annotate.run import annotate

    start_ray()
    commit = Ledger.commit
    counter = (folder / "counter").open("r+b")

    def counted(ledger: Ledger, *arguments: Any) -> None:
        commit(ledger, *arguments)
        counter.seek(0)
        counter.write(f"{ledger.num_finished:>12}".encode())
        counter.flush()

    Ledger.commit = counted
    annotate(
        str(folder / "images.jsonl"),
        str(folder / "output"),
        common.no_op_config(chunk_size=chunk_size),
        stages=common.no_op_stages("filled"),
    )


def run(folder: Path, chunk_size: int, kill_at: int | None) -> dict[str, Any]:
    """One driver to its end or its kill; what was seen of it."""
    (folder / "counter").write_bytes(b"")
    began_s = time.monotonic()
    driver = psutil.Popen(
        [sys.executable, __file__, "--driver", str(folder), "--chunk-size", str(chunk_size)],
        stdout=subprocess.DEVNULL,
    )
    shared_before = shutil.disk_usage("/dev/shm").used
    samples: list[dict[str, Any]] = []
    first_s = None
    last_s = 0.0
    while driver.poll() is None:
        images = int((folder / "counter").read_bytes().strip() or 0)
        now_s = time.monotonic() - began_s
        if images and first_s is None:
            first_s = now_s
        if now_s - last_s >= EVERY_S:
            last_s = now_s
            samples.append({"s": round(now_s, 1), "images": images, **memory(driver)})
            used = shutil.disk_usage("/dev/shm").used - shared_before
            samples[-1]["object_store_mb"] = round(used / 1e6, 1)
        if kill_at is not None and images >= kill_at:
            family = driver.children(recursive=True)
            os.kill(driver.pid, signal.SIGKILL)
            psutil.wait_procs(family, timeout=60)
            break
        time.sleep(0.2)
    driver.wait()
    assert kill_at is not None or driver.returncode == 0, "the driver failed"
    return {"samples": samples, "first_s": round(first_s or 0.0, 1)}


def memory(driver: psutil.Process) -> dict[str, float]:
    """MB of the driver's own memory and of the head's processes."""
    try:
        status = Path(f"/proc/{driver.pid}/status").read_text()
        lines = dict(line.split(":", 1) for line in status.splitlines())
        own = int(lines["RssAnon"].split()[0]) * 1024 / 1e6
        head = 0.0
        for child in driver.children():
            if child.name() in ("gcs_server", "raylet"):
                info = child.memory_info()
                head += (info.rss - info.shared) / 1e6
    except (psutil.NoSuchProcess, FileNotFoundError, KeyError):
        return {"driver_mb": 0.0, "head_mb": 0.0}
    return {"driver_mb": round(own, 1), "head_mb": round(head, 1)}


def count_rows(folder: Path) -> int:
    """Images that are finished on disk."""
    from pad_pipeline.annotate.status import read_status

    return read_status(str(folder / "output"), wait=lambda seconds: None).num_done


def summarise(seen: dict[str, Any]) -> dict[str, Any]:
    """Rate and memory between the first tenth and the end, and the slope per 100,000 images."""
    samples = [sample for sample in seen["samples"] if sample["images"]]
    images = np.array([sample["images"] for sample in samples], dtype=float)
    seconds = np.array([sample["s"] for sample in samples])
    behind = images >= images[0] + (images[-1] - images[0]) / 10
    summary: dict[str, Any] = {
        "images_per_s": round((images[-1] - images[0]) / (seconds[-1] - seconds[0]), 1),
        "seconds_to_first_image": seen["first_s"],
    }
    for kind in ("driver_mb", "head_mb", "object_store_mb"):
        values = np.array([sample[kind] for sample in samples])[behind]
        slope = float(np.polyfit(images[behind], values, 1)[0]) if len(values) > 2 else 0.0
        summary[kind] = {
            "after_a_tenth": float(values[0]),
            "end": float(values[-1]),
            "peak": float(values.max()),
            "slope_per_100k_images": round(slope * 1e5, 2),
        }
    step = max(1, len(samples) // 60)
    return {**summary, "samples": samples[::step]}


if __name__ == "__main__":
    main()
