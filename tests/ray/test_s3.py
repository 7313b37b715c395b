"""Runs on a Ray whose workers know nothing of the S3 server but what the driver tells them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("s3fs", reason="s3fs is not installed")

from pad_pipeline import storage
from pad_pipeline.engine import ray_session
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.checkpoint import Checkpoints
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from tests import fakes
from tests.s3.conftest import Bucket, bucket, s3_server
from tests.s3.faults import Fault, seeded
from tests.s3.test_train import CONFIG
from tests.train.scenes import write_annotations
from tests.train.test_loop import curves

__all__ = ["bucket", "s3_server"]
pytestmark = pytest.mark.ray

TIMEOUT_S = 120.0
NUM_IMAGES = 30

ANNOTATE = """
import sys
from pad_pipeline.engine import ray_session
from pad_pipeline.annotate.run import annotate
from tests import fakes
address, source, *outputs = sys.argv[1:]
ray_session.join(address, verbose=False)
for output in outputs:
    annotate(source, output, fakes.config(), stages=fakes.fused())
"""


def address() -> str:
    import ray

    return ray.get_runtime_context().gcs_address


def driver(script: str, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "RAY_worker_niceness": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, output


def shards(url: str) -> dict[str, bytes]:
    names = storage.list_files(url, ".parquet")
    return {name: storage.read_bytes(storage.join(url, name)) for name in names}


def parts(output: str) -> int:
    """Files of chunks that are finished, in shards or not yet."""
    folders = (storage.join(output, "_run", "progress", f"{n:05d}") for n in range(4))
    return sum(len(storage.list_files(f)) for f in folders) + len(shards(output))


@pytest.mark.usefixtures("local_ray")
def test_annotate_killed_on_s3(bucket: Bucket, tmp_path: Path) -> None:
    fakes.write_images(tmp_path / "images", NUM_IMAGES)
    source, output = f"{bucket.url}/images", f"{bucket.url}/output"
    for path in (tmp_path / "images").iterdir():
        storage.upload(path, storage.join(source, path.name))
    bucket.faults.plan = seeded(5, 1 / 10, Fault("busy"), Fault("reset"), Fault("cut"))
    process = driver(ANNOTATE, address(), source, output)
    deadline = time.monotonic() + TIMEOUT_S
    while not parts(output):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert '"running"' in storage.read_bytes(f"{output}/_manifest.json").decode()
    finish(driver(ANNOTATE, address(), source, output, str(tmp_path / "local")))
    assert bucket.faults.done
    bucket.faults.plan = lambda count, method, path: None
    assert len(shards(output)) == 4
    assert shards(output) == shards(str(tmp_path / "local"))
    assert not storage.exists(f"{output}/_run")


TRAIN = """
import sys
from pad_pipeline.train.run.on_ray import train_on_ray
from pad_pipeline.train.run.folder import open_run
from tests.ray.test_s3 import TRAINING
url, source, images, address = sys.argv[1:]
run = open_run(url, "pretrain", TRAINING, source, images, None)
train_on_ray(run, TRAINING, ray_address=address)
"""
TRAINING = replace(CONFIG, max_steps=None, epochs=4, checkpoint_every=1, num_validation=0)


@pytest.mark.usefixtures("local_ray")
def test_train_killed_on_s3(bucket: Bucket, tmp_path: Path) -> None:
    write_annotations(tmp_path, 12)
    local, source = str(tmp_path / "run"), str(tmp_path / "annotations")
    train(open_run(local, "pretrain", TRAINING, source, None, None), TRAINING, OneWorker())
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "annotations").iterdir()]:
        storage.upload(path, storage.join(bucket.url, path.parent.name, path.name))
    url = f"{bucket.url}/run"
    places = (url, f"{bucket.url}/annotations", f"{bucket.url}/images")
    process = driver(TRAIN, *places, address())
    deadline = time.monotonic() + TIMEOUT_S
    while not Checkpoints(url).steps():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not read_run(url).finished
    finish(driver(TRAIN, *places, address()))
    assert read_run(url).finished
    assert [line["step"] for line in read_metrics(url)] == list(range(8))
    np.testing.assert_allclose(curves(url), curves(local), rtol=1e-6, atol=1e-6)
    assert not storage.exists(f"{url}/_ray")
    assert "metrics.jsonl" in storage.list_files(url)


def test_what_the_job_sets_itself_is_not_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    assert ray_session._store_access() == {}
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://here")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/of/this/container")
    both = {"AWS_ENDPOINT_URL": "http://here", "AWS_ACCESS_KEY_ID": "key"}
    assert ray_session._store_access() == {"runtime_env": {"env_vars": both}}
    job = '{"runtime_env": {"env_vars": {"AWS_ACCESS_KEY_ID": "key"}}}'
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", job)
    told = {"AWS_ENDPOINT_URL": "http://here"}
    assert ray_session._store_access() == {"runtime_env": {"env_vars": told}}
