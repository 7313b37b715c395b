"""Requests per second and latency of the service, by a load tool in a process of its own.

`python benchmarks/serving.py [--seconds 20] [--clients 1 8 64]` starts `pad-pipeline serve
--preset demo`, lets `hey` (Debian package `hey`) post one drawn scene over loopback with so many
clients at a time, and kills the only worker in the middle of a further spell. The rate of the
in-process annotator on the same image, in the chunks of a run, is measured before and after, while
no service runs; `share_of_in_process` is the service's rate at the most clients divided by it.
"""

from __future__ import annotations

import csv
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import numpy as np
import psutil

from pad_pipeline.engine.config import demo
from pad_pipeline.scenes.writer import write_scenes

# as the service's workers have it: threads that spin while they wait lose on a busy machine
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

START_TIMEOUT_S = 600
REQUEST_TIMEOUT_S = 120
KILL_CLIENTS = 8


def main() -> None:
    """Measure, write and print."""
    parser = common.make_parser(__doc__, "serving")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 64])
    arguments = parser.parse_args()
    tool = shutil.which("hey")
    if tool is None:
        parser.error("the load tool `hey` is not here: apt-get install hey")
    machine = common.describe_machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_scenes(folder, num_images=1, seed=3)
        [image] = (folder / "images").iterdir()
        in_process = [in_process_rate(image.read_bytes(), arguments.seconds)]
        with service() as (process, url):
            spells = {}
            for clients in arguments.clients:
                spells[str(clients)] = load(tool, image, url, clients, arguments.seconds)
                common.say(f"{clients} clients: {spells[str(clients)]}")
            killed = load_with_a_kill(tool, image, url, process, 2 * arguments.seconds)
        in_process.append(in_process_rate(image.read_bytes(), arguments.seconds))
    most = spells[str(max(arguments.clients))]["requests_per_s"]
    common.write_result(
        arguments.output,
        machine,
        {
            "what": "POST /annotate of one 288 × 168 PNG, embedded models, layout fused, "
            f"one worker; {arguments.seconds:g} s each; hey over loopback",
            "by_clients": spells,
            "in_process_images_per_s": in_process,
            "share_of_in_process": round(most / float(np.mean(in_process)), 3),
            "worker_killed_under_load": killed,
        },
    )


def in_process_rate(data: bytes, seconds: float) -> float:
    """Images per second of the library's front door, chunk after chunk, without the first."""
    from pad_pipeline.annotate.annotator import Annotator

    config = demo()
    annotator = Annotator(config)
    annotator.annotate([data] * config.chunk_size)
    began_s, number = time.perf_counter(), 0
    while time.perf_counter() - began_s < seconds:
        annotator.annotate([data] * config.chunk_size)
        number += config.chunk_size
    return round(number / (time.perf_counter() - began_s), 2)


@contextmanager
def service() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The command, ready; ended by Ctrl-C, which must succeed."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pad_pipeline", "serve", "--preset", "demo"),
            *("--port", str(port), "--ray-address", "local"),
        ]
    )
    try:
        wait_until_ready(process, f"http://127.0.0.1:{port}/readyz")
        yield process, f"http://127.0.0.1:{port}/annotate"
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()


def wait_until_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Return when the models are loaded."""
    end_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end_s:
        assert process.poll() is None, "the service ended"
        try:
            with urllib.request.urlopen(url, timeout=10):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TimeoutError(f"the service was not ready after {START_TIMEOUT_S} s")


def load(tool: str, image: Path, url: str, clients: int, seconds: float) -> dict[str, Any]:
    """What `hey` saw: every answer but 200, and every request without one, is an error."""
    done = subprocess.run(
        [
            *(tool, "-z", f"{seconds:g}s", "-c", str(clients), "-t", str(REQUEST_TIMEOUT_S)),
            *("-m", "POST", "-T", "image/png", "-D", str(image), "-o", "csv", url),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 2 * REQUEST_TIMEOUT_S,
    )
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    statuses = Counter(row["status-code"] for row in rows)
    times_s = np.array([float(row["response-time"]) for row in rows])
    ended_s = np.array([float(row["offset"]) for row in rows]) + times_s
    p50, p99 = np.percentile(times_s, [50, 99])
    return {
        "requests": len(rows),
        "requests_per_s": round(len(rows) / float(ended_s.max()), 2),
        "p50_s": round(float(p50), 3),
        "p99_s": round(float(p99), 3),
        "slowest_s": round(float(times_s.max()), 3),
        "errors": len(rows) - statuses["200"],
        "statuses": dict(statuses),
    }


def load_with_a_kill(
    tool: str, image: Path, url: str, process: subprocess.Popen[bytes], seconds: float
) -> dict[str, Any]:
    """The same while the process of the only worker is killed after a quarter of the time."""
    [worker] = [
        child
        for child in psutil.Process(process.pid).children(recursive=True)
        if "ServeReplica" in " ".join(child.cmdline())
    ]
    timer = threading.Timer(seconds / 4, worker.kill)
    timer.start()
    seen = load(tool, image, url, KILL_CLIENTS, seconds)
    timer.join()
    return {"clients": KILL_CLIENTS, **seen}


if __name__ == "__main__":
    main()
