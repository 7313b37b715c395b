"""Training on Ray Train: workers that die, errors in their own words, kill -9 of the command."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from pad_pipeline.errors import UserError
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run import progress
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.run.models import load_finished_model
from pad_pipeline.train.run.on_ray import train_on_ray
from pad_pipeline.train.vlsa.config import PRESETS as VLSA_PRESETS
from tests.train.scenes import write_annotations, write_conversations
from tests.train.test_loop import PRETRAIN, curves, write_captions_some_too_long
from tests.train.vlsa.toy_denoiser import write_denoiser

pytestmark = pytest.mark.ray

TIMEOUT_S = 240
FLAGS = (
    *("--preset", "demo", "--global-batch", "6", "--micro-batch", "4", "--epochs", "2"),
    *("--validate-every", "4", "--checkpoint-every", "3", "--num-validation", "3"),
    *("--device", "cpu", "--loggers"),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_annotations(folder, 33)
    return folder


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    url = tmp_path_factory.mktemp("reference") / "run"
    run = open_run(str(url), "pretrain", PRETRAIN, str(folder / "annotations"), None, None)
    train(run, PRETRAIN, OneWorker())
    return url


def train_workers() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "RayTrainWorker" in " ".join(child.cmdline()[:1])]


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_dies_is_started_again(
    folder: Path, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_POLL_S", 0.01)
    config = replace(PRETRAIN, workers=2)
    source = str(folder / "annotations")
    run = open_run(str(tmp_path / "run"), "pretrain", config, source, None, None)
    killed = []

    def kill_once(values: dict) -> None:
        if not killed:
            killed.append(values["step"])
            train_workers()[0].send_signal(signal.SIGKILL)

    train_on_ray(run, config, progress=kill_once)
    assert killed
    assert killed[0] < 8, "killed too late to show anything"
    assert read_run(run.url).finished
    np.testing.assert_allclose(curves(tmp_path / "run"), curves(reference), rtol=1e-6, atol=1e-6)


@pytest.mark.usefixtures("local_ray")
def test_workers_started_again_after_the_end_leave_the_run_as_it_is(
    folder: Path, tmp_path: Path
) -> None:
    source = str(folder / "annotations")
    run = open_run(str(tmp_path / "run"), "pretrain", PRETRAIN, source, None, None)
    train(run, PRETRAIN, OneWorker())
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    train_on_ray(run, replace(PRETRAIN, workers=2))
    after = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.usefixtures("local_ray")
def test_what_ends_a_run_is_told_in_its_own_words(tmp_path: Path) -> None:
    write_annotations(tmp_path, 8)
    (tmp_path / "images" / "0003.png").unlink()
    config = replace(PRETRAIN, max_failures=1)
    source = str(tmp_path / "annotations")
    run = open_run(str(tmp_path / "run"), "pretrain", config, source, None, None)
    with pytest.raises(UserError, match=r"the image of 0003\.png cannot be read"):
        train_on_ray(run, config)
    assert sorted(os.listdir(tmp_path / "run")) == ["_samples.arrow", "metrics.jsonl", "run.json"]


def kill_and_start_again(run: Path, ray_addresses: tuple[str, str], *words: str) -> str:
    """What `train` with these words prints when it has been killed after two steps."""
    command = [sys.executable, "-m", "pad_pipeline", "train", *words, "--output", str(run)]
    first, second = ({**os.environ, "RAY_ADDRESS": address} for address in ray_addresses)
    metrics = run / "metrics.jsonl"
    process = subprocess.Popen(
        command, env=first, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + TIMEOUT_S
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert not read_run(str(run)).finished
    done = subprocess.run(
        command, env=second, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_killed_and_started_again(
    folder: Path, reference: Path, tmp_path: Path, ray_address: str
) -> None:
    addresses = ("local", ray_address)  # the first Ray ends with its command
    words = ("pretrain", str(folder / "annotations"), *FLAGS)
    assert "held-out Align" in kill_and_start_again(tmp_path / "run", addresses, *words)
    assert len(read_metrics(str(tmp_path / "run"))) == 10
    np.testing.assert_allclose(curves(tmp_path / "run"), curves(reference), rtol=1e-6, atol=1e-6)
    facts = json.loads((tmp_path / "run" / "run.json").read_text())
    assert facts["state"] == "finished"


def without_key_bias(name: str, parameter: torch.Tensor) -> torch.Tensor:
    """A bias of attention's keys adds the same to all of a query's scores, which changes nothing.

    Its gradient is what rounding leaves, of which Adam makes whole steps.
    """
    if name.endswith(("k_proj.bias", "to_k.bias")):
        return parameter[:0]
    if name.endswith("in_proj_bias"):
        query, _, value = parameter.chunk(3)
        return torch.cat([query, value])
    return parameter


def test_a_stage_after_vlsa_killed_and_started_again(
    folder: Path, tmp_path: Path, ray_address: str
) -> None:
    """Stage 3, which trains every part, from one Ray that outlives the command."""
    config = replace(
        VLSA_PRESETS["vlsa-3"]["demo"](),
        denoiser=str(write_denoiser(tmp_path / "denoiser")),
        **{"global_batch": 4, "micro_batch": 4, "max_steps": 10, "num_pictures": 1},
        **{"checkpoint_every": 2, "validate_every": 10, "num_validation": 2},
        **{"loggers": (), "device": "cpu"},
    )
    source = str(write_conversations(folder, 33))
    first = replace(config, max_steps=1)
    before = open_run(str(tmp_path / "before"), "vlsa-3", first, source, str(folder), None)
    train(before, first, OneWorker())
    alone = str(tmp_path / "alone")
    run = open_run(
        alone, "vlsa-3", config, source, str(folder), None, init_from=str(tmp_path / "before")
    )
    train(run, config, OneWorker())
    kill_and_start_again(
        tmp_path / "run",
        (ray_address, ray_address),
        *("vlsa", source, "--stage", "3", "--preset", "demo", "--images", str(folder)),
        *("--init-from", str(tmp_path / "before"), "--denoiser", config.denoiser),
        *("--global-batch", "4", "--micro-batch", "4", "--max-steps", "10"),
        *("--checkpoint-every", "2", "--validate-every", "10", "--num-validation", "2"),
        *("--num-pictures", "1", "--device", "cpu", "--loggers"),
    )
    figures = ("caption_loss", "reconstruction_loss", "gradient_norm")
    ours, theirs = (
        [[line[name] for name in figures] for line in read_metrics(url)]
        for url in (str(tmp_path / "run"), alone)
    )
    assert len(ours) == 10
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    mine, others = (
        load_finished_model(read_run(url), device="cpu")[0]
        for url in (str(tmp_path / "run"), alone)
    )
    for (name, one), two in zip(mine.named_parameters(), others.parameters(), strict=True):
        one, two = (without_key_bias(name, parameter) for parameter in (one, two))
        torch.testing.assert_close(
            one, two, rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.usefixtures("local_ray")
def test_what_all_workers_log_and_count_arrives(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = write_captions_some_too_long(folder, 33)
    config = replace(PRETRAIN, workers=2, max_length=200, num_validation=0, epochs=1)
    run = open_run(str(tmp_path / "run"), "pretrain", config, source, None, None)
    with caplog.at_level("INFO", "pad_pipeline"):
        train_on_ray(run, config)
    assert read_run(run.url).facts["problems"] == {"cut": 7}
    # one of each worker
    [first, second] = [text for text in caplog.messages if "is cut, as the text is longer" in text]
    assert first != second
    assert any("projector" in text for text in caplog.messages), "what is trained"
