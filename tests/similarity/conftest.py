"""Scenes with copies, embedded once for all tests that only read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pad_pipeline.similarity.config import EmbedConfig
from pad_pipeline.similarity.embed import embed
from tests.similarity.scenes import write_scenes_with_copies


@pytest.fixture(scope="session")
def shared_set(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A data set with embeddings, which no test may change."""
    url = write_scenes_with_copies(tmp_path_factory.mktemp("similar"))
    embed(url, config=EmbedConfig(map="pca"))
    return url


@pytest.fixture
def url(shared_set: str, tmp_path: Path) -> str:
    """A copy of it, with its embeddings, for a test that changes them."""
    for name in ("set", "set.embeddings"):
        shutil.copytree(Path(shared_set).parent / name, tmp_path / name)
    return str(tmp_path / "set")
