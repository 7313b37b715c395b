"""Where the tests find the outputs of the original models."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

GOLDEN = Path(os.environ.get("PAD_GOLDEN") or Path(__file__).parent / "golden")


def golden_dir(name: str) -> Path:
    """The folder (or file) `name` of the golden data.

    A missing one fails the test with `FileNotFoundError`; with PAD_GOLDEN_OPTIONAL=1 the test is
    skipped instead.
    """
    path = GOLDEN / name
    if path.exists():
        return path
    missing = f"the golden set {name!r} is not in {GOLDEN}"
    if os.environ.get("PAD_GOLDEN_OPTIONAL") == "1":
        pytest.skip(missing)
    raise FileNotFoundError(f"{missing}; PAD_GOLDEN_OPTIONAL=1 skips the tests that need it")
