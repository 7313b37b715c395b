"""The training of the embedded VQ model: what it begins with, and that it learns from there."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from pad_pipeline.models.base import Runtime
from pad_pipeline.models.vq.load import load_image_coder, load_vq_network
from pad_pipeline.models.vq.patch_vq import PatchVq
from tools.annotators import data
from tools.annotators.training_loop import Schedule
from tools.vq import train_vq


def test_it_begins_as_principal_components_and_learns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    config = dataclasses.replace(train_vq.CONFIG, width=8, num_codes=32, smoothing_channels=2)
    for name, value in {"CONFIG": config, "_START_BATCHES": 2, "BATCH": 4}.items():
        monkeypatch.setattr(train_vq, name, value)
    pack = data.open_pack(tmp_path / "scenes", 8, first_seed=40, workers=1)
    schedule = Schedule(steps=12, learning_rate=2e-3, warm_up_steps=2, averaging=0.5)
    monkeypatch.setattr(train_vq, "psnr", lambda model, _: 0.0)
    torch.manual_seed(0)
    begun = PatchVq(config)
    train_vq.start(begun, pack, 0)
    pixels, _ = train_vq.draw_crops(pack, 0, 0)
    # principal components of the same patches lose little, and the codes lie among the latents
    assert (begun.decode(begun.encode(pixels)) - pixels).abs().mean() < 0.1
    folder = train_vq.train_vq(pack, pack, tmp_path / "run", schedule=schedule)
    learnt = load_vq_network(folder)
    assert torch.allclose(begun.to_codes.weight, learnt.to_codes.weight, atol=1e-3)
    assert not torch.allclose(begun.smooth_out.weight, learnt.smooth_out.weight)
    coder = load_image_coder(folder, Runtime())
    [indices] = coder.encode([np.ascontiguousarray(pack[0].image[:64, :64])])
    assert len(np.unique(indices)) > 4
    assert (tmp_path / "run/reconstruction.png").is_file()
    torch.set_num_threads(before)


def test_the_embedded_model_is_small_and_reconstructs_scenes_it_never_saw(tmp_path: Path) -> None:
    model = load_vq_network("embedded")
    assert isinstance(model, PatchVq)
    assert model.config == train_vq.CONFIG
    unseen = data.open_pack(tmp_path / "scenes", 4, data.MONITOR_SEED, workers=1)
    assert train_vq.psnr(model, unseen, 4) > MIN_PSNR


MIN_PSNR = 21.5
