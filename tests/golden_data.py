"""Where the tests find the outputs of the original models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GOLDEN = Path(os.environ.get("PAD_GOLDEN") or Path(__file__).parent / "golden")


def golden_dir(name: str) -> Path:
    """The folder (or file) `name` of the golden data; skips the test where it is not there."""
    path = GOLDEN / name
    if not path.exists():
        pytest.skip(f"the golden set {name!r} is not in {GOLDEN}")
    return path
