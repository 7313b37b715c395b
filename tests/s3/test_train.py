"""Training with annotations, images and run on S3: stopped, gone on, the same as on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.storage import s3 as store
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.checkpoint import Checkpoints
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from tests.s3.conftest import Bucket
from tests.s3.faults import Fault, seeded
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN

CONFIG = replace(
    PRETRAIN, epochs=1, max_steps=4, validate_every=4, checkpoint_every=2, num_validation=3
)


class Stop(Exception):
    """Stands for a kill."""


def test_a_run_on_s3(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "FIRST_DELAY_S", 0.01)
    write_annotations(tmp_path, 24)
    local = open_run(
        str(tmp_path / "run"), "pretrain", CONFIG, str(tmp_path / "annotations"), None, None
    )
    train(local, CONFIG, OneWorker())
    for path in [*(tmp_path / "images").iterdir(), *(tmp_path / "annotations").iterdir()]:
        storage.upload(path, storage.join(bucket.url, path.parent.name, path.name))
    bucket.faults.plan = seeded(3, 1 / 5, Fault("busy"), Fault("reset"), Fault("cut"))
    url, source = f"{bucket.url}/run", f"{bucket.url}/annotations"
    images = f"{bucket.url}/images"

    def stop(done: int, of: int, values: dict) -> None:
        if done == 3:
            raise Stop

    run = open_run(url, "pretrain", CONFIG, source, images, None)
    with pytest.raises(Stop):
        train(run, CONFIG, OneWorker(), stop)
    assert Checkpoints(url).steps() == [2]
    run = open_run(url, "pretrain", CONFIG, source, images, None)
    train(run, CONFIG, OneWorker())
    assert read_run(url).finished
    steps = [values["step"] for values in read_metrics(url)]
    assert steps == [0, 1, 2, 3]
    for name in ("caption_loss", "patch_loss"):
        here, there = (
            [values[name] for values in read_metrics(place)] for place in (local.url, url)
        )
        np.testing.assert_allclose(here, there, rtol=0, atol=1e-6)
    assert sorted(storage.list_files(url)) == sorted(storage.list_files(local.url))
    assert bucket.faults.done


def test_the_last_whole_checkpoint_counts(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PART_BYTES", 20_000)
    monkeypatch.setattr(store, "RETRY_TIMEOUT_S", 0.3)
    checkpoints = Checkpoints(f"{bucket.url}/run")
    assert checkpoints.load_last() is None
    states = [{"weights": torch.randn(100, 100), "number": n} for n in range(3)]
    checkpoints.save(2, states[0], best_step=None)
    checkpoints.save(4, states[1], best_step=2)
    assert checkpoints.steps() == [2, 4]
    bucket.faults.plan = lambda count, method, path: (
        Fault("busy") if method in ("PUT", "POST") else None
    )
    with pytest.raises(UserError, match=r"step-00000006\.pt: .* answers 503"):
        checkpoints.save(6, states[2], best_step=None)
    state = checkpoints.load_last()
    assert state is not None
    assert state["number"] == 1
    assert torch.equal(state["weights"], states[1]["weights"])


def test_samples_are_fetched_once_and_without_holding_them(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pad_pipeline.train.data.sample_file import local_copy

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"x": list(range(10_000))}), sink)
    storage.write_atomic(f"{bucket.url}/x", sink.getvalue().to_pybytes())
    path = local_copy(f"{bucket.url}/x")
    assert path.read_bytes() == sink.getvalue().to_pybytes()
    bucket.faults.requests.clear()
    assert local_copy(f"{bucket.url}/x") == path
    assert [method for method, _ in bucket.faults.requests] == ["HEAD"]
