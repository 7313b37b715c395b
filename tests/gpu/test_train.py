"""Training steps on a GPU: the same curves as on the CPU, and a killed run goes on as it was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN

ON_GPU = replace(PRETRAIN, device="cuda", dtype="float32")
FIGURES = ("caption_loss", "patch_loss", "cosine", "gradient_norm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_annotations(folder, 33)
    return folder


def curves(folder: Path, url: Path, config: TrainConfig, on_step=None) -> np.ndarray:
    run = open_run(str(url), "pretrain", config, str(folder / "annotations"), None, None)
    train(run, config, OneWorker(), on_step)
    assert read_run(str(url)).finished
    return np.array([[line[name] for name in FIGURES] for line in read_metrics(str(url))])


@pytest.fixture(scope="module")
def reference(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return curves(folder, tmp_path_factory.mktemp("gpu") / "run", ON_GPU)


def test_in_float32_the_curves_are_those_of_the_cpu(
    folder: Path, reference: np.ndarray, tmp_path: Path
) -> None:
    by_cpu = curves(folder, tmp_path / "run", replace(ON_GPU, device="cpu"))
    np.testing.assert_allclose(reference, by_cpu, rtol=2e-3, atol=1e-4)


def test_bfloat16_learns_as_well(folder: Path, reference: np.ndarray, tmp_path: Path) -> None:
    half = curves(folder, tmp_path / "run", replace(ON_GPU, dtype="bfloat16"))
    np.testing.assert_allclose(half[:, :3], reference[:, :3], rtol=0.03, atol=0.03)


class Killed(BaseException):
    """Ends the loop at once."""


def test_a_resumed_run_equals_one_that_was_never_killed(
    folder: Path, reference: np.ndarray, tmp_path: Path
) -> None:
    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        curves(folder, tmp_path / "run", ON_GPU, on_step=kill)
    again = curves(folder, tmp_path / "run", ON_GPU)
    np.testing.assert_allclose(again, reference, rtol=1e-4, atol=1e-5)
