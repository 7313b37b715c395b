"""A run that averages its weights ends with the average, whatever ends it on the way."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing
from torch import Tensor

from pad_pipeline.errors import UserError
from pad_pipeline.train.averaging import decay_at
from pad_pipeline.train.distributed import OneWorker, workers
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.checkpoint import Checkpoints
from pad_pipeline.train.run.config import TrainConfig
from pad_pipeline.train.run.folder import open_run, read_run
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.run.models import load_finished_model
from tests.ports import free_port
from tests.train.scenes import write_annotations, write_conversations
from tests.train.test_loop import FINETUNE, PRETRAIN, Killed, pretrain

CONFIG = replace(PRETRAIN, max_steps=5, checkpoint_every=1, num_validation=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("averaged")
    write_annotations(folder, 20)
    write_conversations(folder, 20)
    return folder


def projector(url: Path) -> dict[str, Tensor]:
    model, _, _ = load_finished_model(read_run(str(url)), device="cpu")
    return {f"projector.{name}": each for name, each in model.projector.named_parameters()}


def weights_of_each_step(folder: Path, url: Path) -> list[dict[str, Tensor]]:
    """The weights before the first step, as far as a checkpoint has them, and after each step."""
    found = []

    def keep(done: int, num_steps: int, values: dict) -> None:
        found.append(Checkpoints(str(url)).load(done)["weights"])

    pretrain(folder, url, CONFIG, keep)
    return found


def test_the_run_ends_with_the_average_and_trains_as_without(folder: Path, tmp_path: Path) -> None:
    steps = weights_of_each_step(folder, tmp_path / "plain")
    config = replace(CONFIG, ema_decay=0.4)
    pretrain(folder, tmp_path / "run", config)
    state = Checkpoints(str(tmp_path / "run")).load_last()
    assert state is not None
    expected = {}
    for name, last in steps[-1].items():
        assert torch.equal(state["weights"][name], last), "averaging must not change the training"
        # the learning rate of the first step is 0, so the weights after it are the first ones
        average = steps[0][name].clone()
        for step, weights in enumerate(steps):
            decay = min(0.4, (1 + step) / (10 + step))
            average = decay * average + (1 - decay) * weights[name]
        expected[name] = average
    for name, found in projector(tmp_path / "run").items():
        torch.testing.assert_close(found, expected[name], rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(state["averaged"][name], expected[name], rtol=1e-5, atol=1e-7)
    apart = max(float((expected[name] - steps[-1][name]).abs().max()) for name in expected)
    assert apart > 1e-4, "the average of these steps should differ from their end"


def test_a_killed_run_ends_with_the_same_average(folder: Path, tmp_path: Path) -> None:
    config = replace(CONFIG, ema_decay=0.4, num_validation=2, validate_every=2, checkpoint_every=2)

    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == 3:
            raise Killed

    pretrain(folder, tmp_path / "whole", config)
    with pytest.raises(Killed):
        pretrain(folder, tmp_path / "ended", config, kill)
    pretrain(folder, tmp_path / "ended", config)
    ours, theirs = projector(tmp_path / "ended"), projector(tmp_path / "whole")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    for one, other in zip(
        *(read_metrics(str(tmp_path / name)) for name in ("ended", "whole")), strict=True
    ):
        assert one.get("validation/loss") == other.get("validation/loss")
    with pytest.raises(UserError, match=r"ema_decay was 0.4 and is 0.0"):
        pretrain(folder, tmp_path / "ended", replace(config, ema_decay=0.0))


def end_and_go_on(rank: int, port: int, url: str, config: TrainConfig) -> None:
    """One of two workers that end behind a checkpoint and then resume, in one process."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)

    def kill(done: int, num_steps: int, values: dict) -> None:
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        train(read_run(url), config, workers(), kill)
    dist.barrier()  # rank 0 has written the checkpoint
    train(read_run(url), config, workers())
    dist.destroy_process_group()


def test_two_workers_that_share_a_model_average_their_parts(folder: Path, tmp_path: Path) -> None:
    pretrain(folder, tmp_path / "stage1", replace(CONFIG, max_steps=1))
    config = replace(FINETUNE, ema_decay=0.4, max_steps=3, checkpoint_every=2)
    found = []
    for number in (1, 2):
        url = str(tmp_path / f"{number}")
        source, stage1 = str(folder / "conversations.json"), str(tmp_path / "stage1")
        run = open_run(url, "finetune", config, source, None, stage1)
        if number == 1:
            train(run, config, OneWorker())
        else:
            multiprocessing.set_forkserver_preload([__name__])
            arguments = (free_port(), url, replace(config, workers=2))
            torch.multiprocessing.start_processes(
                end_and_go_on, arguments, nprocs=2, start_method="forkserver"
            )
        found.append(load_finished_model(read_run(url), device="cpu")[0].state_dict())
        losses = [line.get("validation/loss") for line in read_metrics(url)]
        found[-1]["losses"] = torch.tensor([loss for loss in losses if loss is not None])
    for name, ours in found[1].items():
        torch.testing.assert_close(ours, found[0][name], rtol=1e-2, atol=2e-4, msg=name)


def test_the_decay_rises_and_must_be_below_one() -> None:
    assert [decay_at(step, 0.9) for step in (0, 8, 1000)] == [0.1, 0.5, 0.9]
    with pytest.raises(UserError, match=r"ema_decay must lie between 0 and 1, not 1.0"):
        replace(PRETRAIN, ema_decay=1.0)
