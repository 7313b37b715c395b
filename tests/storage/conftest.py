"""Folders on the disk, in memory and on a server that can rename."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem


@pytest.fixture(params=["path", "file", "memory", "renaming"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A fresh folder as a path, a file:// URL, in memory, and on a server that can rename."""
    if request.param == "memory":
        fsspec.filesystem("memory").store.clear()
        fsspec.filesystem("memory").pseudo_dirs[:] = [""]
        return "memory://bucket/run"
    if request.param == "renaming":
        fsspec.register_implementation("renaming", Renaming, clobber=True)
        return f"renaming://{tmp_path}/run"
    return f"file://{tmp_path}/run" if request.param == "file" else f"{tmp_path}/run"


class Renaming(LocalFileSystem):
    """Stands for a remote file server whose put is not atomic (SFTP, SMB, HDFS)."""

    protocol = "renaming"  # type: ignore[assignment]

    @classmethod
    def _strip_protocol(cls, path: str) -> str:  # type: ignore[override]
        return path.removeprefix("renaming://")
