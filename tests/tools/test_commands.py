"""The commands that train the embedded models start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "name", ["tools.annotators", "tools.denoiser", "tools.language", "tools.vq"]
)
def test_the_command_says_how_it_is_used(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m {name}" in done.stdout
