"""Scenes with annotations and conversations, and a run of training on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pad_pipeline.train.distributed import OneWorker
from pad_pipeline.train.loop import train
from pad_pipeline.train.run.folder import open_run
from tests.train.scenes import write_annotations, write_conversations
from tests.train.test_loop import PRETRAIN


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `annotations` and `conversations.json` of twelve scenes."""
    folder = tmp_path_factory.mktemp("scenes")
    write_annotations(folder, 12)
    write_conversations(folder, 12)
    return folder


@pytest.fixture(scope="session")
def trained_run(scenes: Path) -> Path:
    """A run of stage 1 that ended after two steps."""
    url = scenes / "run"
    config = dataclasses.replace(PRETRAIN, max_steps=2, num_validation=0)
    begun = open_run(str(url), "pretrain", config, str(scenes / "annotations"), None, None)
    train(begun, config, OneWorker())
    return url
