"""A cluster that runs already: jobs that are submitted to it, runs that join it."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest

from pad_pipeline.scenes.writer import write_scenes
from tests import fakes
from tests.ports import free_port
from tests.train.scenes import write_annotations

pytest.importorskip("aiohttp_cors", reason="ray[default] is not installed")
pytestmark = pytest.mark.ray

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]
START_TIMEOUT_S = 90.0
RUN_TIMEOUT_S = 240


@dataclass(frozen=True)
class Head:
    """A cluster of one node."""

    address: str
    jobs: str
    metrics: str
    environment: dict[str, str]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Ray's head with token authentication, as `ray start` starts it; ended with its children."""
    address, dashboard, metrics = f"127.0.0.1:{free_port()}", free_port(), free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",  # of fake_command
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
    }
    # Paths of sockets must be short. In a folder of its own, the head is not found by other runs.
    with tempfile.TemporaryDirectory(
        prefix="pad-", dir="/tmp", ignore_cleanup_errors=True
    ) as place:
        command = [
            *(BIN / "ray", "start", "--head", "--block", "--disable-usage-stats"),
            *("--node-ip-address", "127.0.0.1", "--port", address.split(":")[1]),
            *("--include-dashboard", "true", "--dashboard-port", str(dashboard)),
            # The agent runs the jobs. At its fixed default port, it would collide with that of any
            # other Ray here, and say so in a log file only.
            *("--dashboard-agent-listen-port", str(free_port())),
            *("--num-cpus", "8", "--temp-dir", place),
            *("--metrics-export-port", str(metrics)),
            *("--system-config", '{"metrics_report_interval_ms": 500}'),
        ]
        with Path(place, "head.log").open("w") as log:
            process = psutil.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            urls = [f"http://127.0.0.1:{port}" for port in (dashboard, metrics)]
            head = Head(address, *urls, environment)
            _wait_for_agent(head, process, Path(place))
            yield head
        finally:
            _end(process)


def _end(process: psutil.Popen) -> None:
    """Kill the head and what it has started, nothing else: `ray stop` ends every Ray there is."""
    family = [process, *process.children(recursive=True)] if process.is_running() else []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait(timeout=30)


def _wait_for_agent(head: Head, process: psutil.Popen, place: Path) -> None:
    """Return once a job has run: the head takes jobs some seconds after its start only."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        assert process.poll() is None, (place / "head.log").read_text()
        done = subprocess.run(
            [*submit(head), "true"],
            env=head.environment,
            cwd=place,
            capture_output=True,
            text=True,
            timeout=START_TIMEOUT_S,
            check=False,
        )
        if done.returncode == 0:
            return
        assert time.monotonic() < deadline, done.stdout + done.stderr
        time.sleep(1)


def submit(head: Head) -> list[str]:
    """The command that submits what follows it."""
    return [str(BIN / "ray"), "job", "submit", "--address", head.jobs, "--working-dir", ".", "--"]


def run(command: list[str | Path], environment: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(
        list(map(str, command)),
        env=environment,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.parquet")}


def job(head: Head, *words: str) -> str:
    done = subprocess.run(
        [BIN / "ray", "job", words[0], "--address", head.jobs, *words[1:]],
        env=head.environment,
        capture_output=True,
        text=True,
        timeout=RUN_TIMEOUT_S,
        check=False,
    )
    return done.stdout + done.stderr


def status(output: Path) -> dict:
    done = subprocess.run(
        [BIN / "pad-pipeline", "status", output, "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return json.loads(done.stdout)


def scrape(head: Head) -> dict[str, float]:
    """Our metrics at Ray's Prometheus endpoint by name and stage, summed over workers."""
    try:
        text = urllib.request.urlopen(f"{head.metrics}/metrics", timeout=10).read().decode()
    except OSError:
        return {}
    found: Counter[str] = Counter()
    for name, labels, value in re.findall(
        r"^ray_(pad_\w+)\{(.*)\} ([\d.e+-]+)$", text, re.MULTILINE
    ):
        stage = re.search(r'stage="([^"]*)"', labels.replace("Stage", "stage"))
        found[f"{name}/{stage[1] if stage else ''}"] += float(value)
    return dict(found)


def test_a_job_is_watched_stopped_and_continued(head: Head, tmp_path: Path) -> None:
    fakes.write_images(tmp_path / "images", 60)
    output = tmp_path / "out"
    words = ["python", "-m", "tests.fake_command", "annotate", tmp_path / "images", output]
    words += ["--preset", "demo", "--chunk-size", "1", "--rows-per-shard", "16"]
    words += ["--layout", "pools"]
    held = ["env", "FAKE_HOLD_AT=040.png", *words]
    command = [*submit(head)[:-1], "--submission-id", "first", "--no-wait", "--", *held]
    run(command, head.environment, tmp_path)
    wanted = {f"pad_images_total/{stage}" for stage in ("tag", "detect", "suppress", "segment")}
    wanted |= {"pad_busy_share/segment", "pad_batch_seconds_count/tag"}
    deadline = time.monotonic() + RUN_TIMEOUT_S
    while True:
        seen = scrape(head)
        # processes report at different times; the run stands still, so the counts come to fit
        if (
            wanted <= seen.keys()
            and any(name.startswith("pad_waiting_chunks/") for name in seen)
            and 1 <= seen["pad_images_total/segment"] <= seen["pad_images_total/tag"] <= 60
        ):
            break
        assert time.monotonic() < deadline, (seen, job(head, "logs", "first"))
        time.sleep(0.2)
    assert status(output)["state"] == "running"
    start_s = time.monotonic()
    assert "was stopped" in job(head, "stop", "first")
    assert time.monotonic() - start_s < 20
    assert "interrupted; what was finished is kept" in job(head, "logs", "first")
    found = status(output)
    assert (found["state"], found["num_images"]) == ("interrupted", 60)
    assert 1 <= found["num_done"] < 60
    again = run([*submit(head), *words], head.environment, tmp_path)
    assert f"continuing after {found['num_done']} finished images" in again
    assert status(output)["state"] == "finished"
    table = pq.read_table(output)
    assert table["image_id"].to_pylist() == sorted(p.name for p in (tmp_path / "images").iterdir())
    summary = json.loads((output / "_summary.json").read_text())
    assert summary["stages"]["tag"]["images"] == 60 - found["num_done"]
    assert 0 < summary["stages"]["segment"]["busy_share"] <= 1


def test_a_submitted_job_trains(head: Head, tmp_path: Path) -> None:
    write_annotations(tmp_path, 12)
    words = ["pad-pipeline", "train", "pretrain", tmp_path / "annotations"]
    words += ["--output", tmp_path / "run", "--preset", "demo", "--device", "cpu", "--workers", "2"]
    words += ["--global-batch", "4", "--micro-batch", "2", "--epochs", "1", "--loggers"]
    log = run([*submit(head), *words], head.environment, tmp_path)
    assert "succeeded" in log
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["state"] == "finished"
    assert (tmp_path / "run" / "mm_projector.safetensors").exists()
    assert status(tmp_path / "run")["state"] == "finished"


def test_a_submitted_job_and_a_run_that_joins_say_the_same(head: Head, tmp_path: Path) -> None:
    write_scenes(tmp_path, num_images=4, seed=0)
    images = tmp_path / "images"
    annotate = ["pad-pipeline", "annotate", images]
    job = [*annotate, tmp_path / "submitted", "--preset", "demo"]
    submitted = run([*submit(head), *job], head.environment, tmp_path)
    assert "succeeded" in submitted
    table = pq.read_table(tmp_path / "submitted")
    assert table["image_id"].to_pylist() == sorted(path.name for path in images.iterdir())
    assert set(table["status"].to_pylist()) <= {"ok", "empty"}
    joined = run(
        [*annotate, "joined", "--preset", "demo", "--ray-address", head.address],
        head.environment,
        tmp_path,
    )
    assert str(tmp_path / "joined") in joined
    assert shards(tmp_path / "joined") == shards(tmp_path / "submitted")
