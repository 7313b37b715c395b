"""The training of the embedded denoiser: a few steps of each part, and what is shipped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pad_pipeline.models.references import EMBEDDED_WEIGHTS
from pad_pipeline.train.model.perceiver import sine_positions
from pad_pipeline.train.vlsa.denoiser_files import load_denoiser
from tools.annotators.data import MONITOR_SEED
from tools.annotators.training_loop import Schedule
from tools.denoiser.train_autoencoder import psnr, to_square, train_autoencoder
from tools.denoiser.train_transformer import CONFIG, train_transformer
from tools.language.frames import FramePack, open_frames

SHORT = Schedule(steps=2, learning_rate=1e-3, warm_up_steps=1, weight_decay=0.0)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> FramePack:
    return open_frames(tmp_path_factory.mktemp("scenes"), 6, MONITOR_SEED)


def test_two_steps_of_each_part_leave_a_pipeline_that_loads(
    pack: FramePack, tmp_path: Path
) -> None:
    train_autoencoder(pack, pack, tmp_path, schedule=SHORT, batch=2)
    train_transformer(pack, pack, tmp_path, schedule=SHORT, batch=2)
    denoiser = load_denoiser(tmp_path / "model")
    assert denoiser.image_size == 64
    assert denoiser.condition_width == CONFIG["caption_channels"]
    latents = denoiser.encode(to_square(pack.pixels[:, 0]) / 2 + 0.5)
    assert float(latents.std()) == pytest.approx(1, abs=0.2)  # scaled to the size of the noise


def test_the_shipped_autoencoder_knows_unseen_scenes(pack: FramePack) -> None:
    denoiser = load_denoiser(EMBEDDED_WEIGHTS / "denoiser")
    assert psnr(denoiser.autoencoder, to_square(pack.pixels[:, 0])) > 22


def test_every_place_has_positions_of_its_own() -> None:
    places = sine_positions(8, 128)
    assert places.shape == (64, 128)
    distances = torch.cdist(places, places) + 9 * torch.eye(64)
    assert float(distances.min()) > 1
    torch.testing.assert_close(places[0, :64], places[7, :64])  # one row
    torch.testing.assert_close(places[0, 64:], places[56, 64:])  # one column
