"""A fresh folder for each test, once on the disk and once behind a URL."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest


@pytest.fixture(params=["local", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder as a path and as a memory:// URL."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        fsspec.filesystem("memory").pseudo_dirs[:] = [""]
        return "memory://data"
    return os.fspath(tmp_path)
