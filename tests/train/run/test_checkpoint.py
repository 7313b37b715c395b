"""Checkpoints: the last and the best are kept, a damaged one is named, random states return."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from pad_pipeline.errors import UserError
from pad_pipeline.train.run.checkpoint import Checkpoints, random_state, restore_random_state


@pytest.mark.parametrize("place", ["local", "memory"])
def test_the_last_and_the_best_are_kept(tmp_path: Path, place: str) -> None:
    checkpoints = Checkpoints(str(tmp_path) if place == "local" else "memory://runs/kept")
    assert checkpoints.load_last() is None
    for step, best in ((10, 10), (20, 20), (30, 20), (40, 20)):
        checkpoints.save(step, {"weights": {"w": torch.full((2,), step)}}, best_step=best)
    assert checkpoints.steps() == [20, 40]
    last = checkpoints.load_last()
    assert last is not None
    assert last["step"] == 40
    assert last["weights"]["w"].tolist() == [40, 40]


def test_a_half_written_checkpoint_is_not_seen(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(10, {"weights": {}}, best_step=None)
    (tmp_path / "checkpoints" / ".tmp-step-00000020.pt").write_bytes(b"half")
    assert checkpoints.steps() == [10]


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(10, {"weights": {}}, best_step=None)
    path = tmp_path / "checkpoints" / "step-00000010.pt"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match=r"step-00000010\.pt is damaged"):
        checkpoints.load_last()


def test_random_states_return(tmp_path: Path) -> None:
    checkpoints = Checkpoints(str(tmp_path))
    checkpoints.save(1, {"random": random_state()}, best_step=None)
    drawn = (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random())
    state = checkpoints.load_last()
    assert state is not None
    restore_random_state(state["random"])
    assert (torch.rand(3).tolist(), np.random.rand(3).tolist(), random.random()) == drawn
