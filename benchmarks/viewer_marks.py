"""How long marks take to be kept: one after another, and of ten browsers at once.

`python benchmarks/viewer_marks.py` makes the data set of `viewer.py` (558,128 images), starts the
viewer as a process of its own and marks regions over HTTP: first in an empty file of marks, then in
one that has 100,000 already, which is a person's work of months. A mark's time is that of the whole
answer; it is on the disk by then. `cpu_ms` is what the server computed for one, which does not
depend on other programs.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import common
import psutil
from viewer import NUM_ROWS, image_id, make_index, write_data

from pad_pipeline.review.events import new_event
from pad_pipeline.review.log import read_marks

NUM_BEFORE, NUM_MARKS, NUM_BROWSERS = 100_000, 50, 10
GOAL_MS, REPEATS = 50, 5
PAGES = ("/?", "/?sort=score", "/?review=rejected", "/?review=unmarked&sort=score", "/review")


def main() -> None:
    """Write the data set, measure, write and print."""
    parser = common.make_parser(__doc__, "viewer_marks")
    parser.add_argument("--num-rows", type=int, default=NUM_ROWS)
    parser.add_argument("--folder", type=Path, help="where a data set of `viewer.py` lies")
    arguments = parser.parse_args()
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as made:
        folder = arguments.folder or Path(made)
        data = folder / "annotations"
        if not data.exists():
            write_data(data, arguments.num_rows)
        environment = {**os.environ, "PAD_CACHE": str(folder / "cache")}
        make_index(data, environment)
        result = {
            "what": "marks over HTTP on synthetic records of the paper's size",
            "num_rows": arguments.num_rows,
            "goal_ms": GOAL_MS,
            "empty_file": measure(data, Path(made, "empty.jsonl"), environment, 0),
            "marks_before": NUM_BEFORE,
            "long_file": measure(data, Path(made, "long.jsonl"), environment, NUM_BEFORE),
        }
    common.write_result(arguments.output, machine, result)


def measure(data: Path, review: Path, environment: dict[str, str], before: int) -> dict[str, Any]:
    """The times of marks, of ten browsers' marks, and of pages that show them."""
    with review.open("wb") as file:
        for number in range(before):
            event = new_event("verdict", "before", image=image_id(5 * number), value="rejected")
            file.write(event.to_line())
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "pad_pipeline", "view", str(data), "--port", "0"),
            *("--review", str(review)),
        ],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        address = next(line for line in server.stdout if "serving" in line).split()[2]
        host = address.removeprefix("http://")
        process = psutil.Process(server.pid)
        pages = {path: look(host, path, process) for path in PAGES}
        cpu_s = sum(process.cpu_times()[:2])
        alone = mark_many(host, 0)
        cpu_s = sum(process.cpu_times()[:2]) - cpu_s
        with ThreadPoolExecutor(NUM_BROWSERS) as pool:
            several = list(pool.map(lambda n: mark_many(host, n), range(1, NUM_BROWSERS + 1)))
    finally:
        server.terminate()
        server.wait(20)
    kept = len(read_marks(str(review)).events) - before
    return {
        "alone": {**summary(alone), "cpu_ms": round(1000 * cpu_s / NUM_MARKS, 1)},
        "ten_browsers": summary([each for one in several for each in one]),
        "marks_sent": NUM_MARKS * (NUM_BROWSERS + 1),
        "marks_kept": kept,
        "pages": pages,
    }


def mark_many(host: str, browser: int) -> list[float]:
    """Milliseconds of each of one browser's marks, on images whose pages it has loaded before."""
    connection = http.client.HTTPConnection(host, timeout=120)
    times = []
    for number in range(NUM_MARKS):
        connection.request("GET", f"/api/review/image/{image_id(1000 * browser + number)}")
        connection.getresponse().read()
    for number in range(NUM_MARKS):
        event = {
            "kind": "verdict",
            "image": image_id(1000 * browser + number),
            "value": "accepted",
            "by": f"browser {browser}",
        }
        began = time.perf_counter()
        connection.request(
            "POST", "/api/review", json.dumps(event), {"Content-Type": "application/json"}
        )
        answer = connection.getresponse()
        answer.read()
        times.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, answer.status
    connection.close()
    return times


def look(host: str, path: str, server: psutil.Process) -> dict[str, float]:
    """Milliseconds of a page, and of the server's computing for one."""
    cpu_s = sum(server.cpu_times()[:2])
    times = [get(host, path) for _ in range(REPEATS)]
    cpu_s = sum(server.cpu_times()[:2]) - cpu_s
    return {
        "p50_ms": round(statistics.median(times), 1),
        "cpu_ms": round(1000 * cpu_s / REPEATS, 1),
    }


def get(host: str, path: str) -> float:
    """Milliseconds of a page."""
    connection = http.client.HTTPConnection(host, timeout=120)
    began = time.perf_counter()
    connection.request("GET", path)
    answer = connection.getresponse()
    answer.read()
    taken = 1000 * (time.perf_counter() - began)
    assert answer.status == 200, (path, answer.status)
    connection.close()
    return taken


def summary(times: list[float]) -> dict[str, float]:
    """Median, 95th percentile and largest."""
    ordered = sorted(times)
    return {
        "p50_ms": round(statistics.median(ordered), 1),
        "p95_ms": round(ordered[int(0.95 * len(ordered))], 1),
        "max_ms": round(ordered[-1], 1),
    }


if __name__ == "__main__":
    main()
