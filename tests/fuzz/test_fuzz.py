"""A small, fixed part of the fuzz test; its long form is `python -m tests.fuzz`."""

from __future__ import annotations

import logging
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import KINDS, TARGETS

MOST_CPU_S = 10.0
MOST_MEMORY_KIB = 1 << 20


@pytest.mark.parametrize("kind", KINDS)
@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 1 << 32))
def test_input_is_accepted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, kind: str, seed: int
) -> None:
    """Nothing but rows, records, pixels or a documented error, in bounded time and memory."""
    logging.disable(logging.WARNING)
    folder = tmp_path_factory.mktemp("input")
    memory_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    try:
        assert TARGETS[kind].read(TARGETS[kind].make(Random(seed)), folder) in (True, False)
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(folder)
    assert time.process_time() - began < MOST_CPU_S
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory_kib
    assert grown_kib < MOST_MEMORY_KIB


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_name_inputs_for_ever_and_some_are_accepted(kind: str, tmp_path: Path) -> None:
    """A generator that only makes rubbish would test only the first check."""
    target = TARGETS[kind]
    assert target.make(Random(5)) == target.make(Random(5))
    logging.disable(logging.WARNING)
    try:
        for seed in range(100):
            folder = tmp_path / str(seed)
            folder.mkdir()
            if target.read(target.make(Random(seed)), folder):
                return
    finally:
        logging.disable(logging.NOTSET)
    pytest.fail("none of 100 inputs was accepted")


def test_the_long_form_counts_what_ends_its_process(tmp_path: Path) -> None:
    """One kind that kills its process at every third input, beside what works."""
    code = (
        "import os, tests.fuzz.__main__ as front; from tests.fuzz.targets import Target\n"
        "def read(data, folder):\n"
        "    if data[0] == 5: os.kill(os.getpid(), 11)\n"
        "    if data[0] == 6: raise KeyError('x')\n"
        "    return data[0] % 2 == 0\n"
        "front.TARGETS['masks'] = Target(lambda rng: bytes([rng.randrange(8)]), read)\n"
        "raise SystemExit(front.main())\n"
    )
    script = tmp_path / "crashing.py"
    script.write_text(code)
    state, findings = tmp_path / "state", tmp_path / "findings"
    state.write_bytes(bytes(72))
    command = [sys.executable, script, "--work", "masks", "0", "30", state, findings]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env={"PYTHONPATH": "."})
    assert done.returncode == -11
    first = next(seed for seed in range(100) if Random(seed).randrange(8) == 5)
    from tests.fuzz.__main__ import _FIELDS, _STATE

    found = dict(zip(_FIELDS, _STATE.unpack(state.read_bytes()), strict=True))
    assert int(found["seed"]) == first
    counted = found["accepted"] + found["refused"] + found["unexpected"]
    assert counted == found["inputs"] == first
