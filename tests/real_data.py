"""Where the tests find real data that the repository does not hold: photographs, a vocabulary."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REAL_DATA = Path(os.environ.get("PAD_REAL_DATA") or Path(__file__).parents[2] / "shared" / "real")


def real_data(name: str, what: str) -> Path:
    """The file or folder `name` of the real data; the test is skipped where it is not there."""
    path = REAL_DATA / name
    if not path.exists():
        pytest.skip(f"{what} not found at {path}; PAD_REAL_DATA names the folder that holds {name}")
    return path
