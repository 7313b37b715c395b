"""`pad-pipeline status` of training runs: its figures come from the run's files alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from pad_pipeline.cli.main import main
from pad_pipeline.storage.locks import only_run_on
from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run
from pad_pipeline.train.run.metrics_file import read_metrics
from pad_pipeline.train.run.status import read_training_status
from tests.train.scenes import write_annotations
from tests.train.test_loop import PRETRAIN, Killed


def test_the_status_of_a_killed_run_counts_its_steps_and_the_time_left(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_annotations(tmp_path, 12)
    config = replace(PRETRAIN, epochs=2, global_batch=3, num_validation=0)
    url, source = str(tmp_path / "run"), str(tmp_path / "annotations")
    run = open_run(url, "pretrain", config, source, None, None)
    begun = read_training_status(url)
    assert (begun.state, begun.steps_done, begun.num_steps) == ("interrupted", 0, 8)
    assert begun.seconds_left is None

    def kill(done: int, num_steps: int, values: dict) -> None:
        assert num_steps == begun.num_steps
        if done == 3:
            raise Killed

    with pytest.raises(Killed):
        train(run, config, OneWorker(), kill)
    with only_run_on(url):
        assert read_training_status(url).state == "running"
    found = read_training_status(url)
    assert (found.state, found.steps_done, found.stage) == ("interrupted", 3, "pretrain")
    times = sorted(line["step_s"] for line in read_metrics(url))
    assert found.step_s == times[1]
    assert found.seconds_left == pytest.approx(5 * times[1])
    assert found.last["step"] == 2
    main(["status", url])
    output = capfd.readouterr().out
    assert "3 of 8" in output
    assert "left" in output
    assert "Run the same command again to continue." in output

    train(run, config, OneWorker())
    main(["status", url, "--json"])
    values = json.loads(capfd.readouterr().out)
    assert (values["state"], values["steps_done"], values["seconds_left"]) == ("finished", 8, None)
