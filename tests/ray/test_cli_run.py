"""`pad-pipeline annotate` as a process: ended by signals, continued, refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests import fakes
from tests.cli import place as cli_place
from tests.cli.runner import call

pytestmark = pytest.mark.ray

ROOT = Path(__file__).parents[2]
NUM_IMAGES, ROWS = 40, 8
NUM_SHARDS = 5
END_WITHIN_S = 20.0
OPTIONS = ("--preset", "demo", "--chunk-size", "1", "--rows-per-shard", str(ROWS))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    fakes.write_images(folder, NUM_IMAGES)
    return folder


def shards(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.glob("*.parquet")}


def parts(output: Path) -> set[Path]:
    """What is finished so far; whole shards take the place of their parts."""
    return {*output.glob("_run/progress/*/*.parquet"), *output.glob("*.parquet")}


def start(
    images: Path, output: Path, *, ray_address: str = "local", hold_at: str = ""
) -> subprocess.Popen[str]:
    """The command with fake models in a process group of its own, as a terminal starts it.

    It starts Ray or joins the one at `ray_address`, and never gets past the image `hold_at`.
    """
    return subprocess.Popen(
        [sys.executable, "-m", "tests.fake_command", "annotate", images, output, *OPTIONS],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "RAY_ADDRESS": ray_address, "FAKE_HOLD_AT": hold_at},
        start_new_session=True,
        # tests that a shell runs in the background ignore Ctrl-C, and so would what they start
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_progress(process: subprocess.Popen[str], output: Path, before: set[Path]) -> None:
    deadline = time.monotonic() + 120
    while parts(output) <= before:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "no image within two minutes"
        time.sleep(0.05)


def end_of(process: subprocess.Popen[str]) -> str:
    """What it wrote to stderr until its end; where it does not end, also where its threads are."""
    try:
        return process.communicate(timeout=60)[1]
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGUSR1)  # `fake_command` writes the stacks
        time.sleep(2)
        process.kill()
        pytest.fail(f"it goes on a minute after the signal:\n{process.communicate(timeout=60)[1]}")


def test_whatever_ends_a_run_the_same_command_goes_on(
    images: Path, tmp_path: Path, ray_address: str
) -> None:
    output = tmp_path / "out"
    # kill -9 of the program alone; Ctrl-C, which a terminal sends to all; a batch system's end
    for number, (signum, to_all, hold_at) in enumerate(
        [
            (signal.SIGKILL, False, "012.png"),
            (signal.SIGINT, True, "020.png"),
            (signal.SIGTERM, False, "028.png"),
        ]
    ):
        before = parts(output)
        process = start(images, output, hold_at=hold_at)
        try:
            wait_for_progress(process, output, before)
            start_s = time.monotonic()
            (os.killpg if to_all else os.kill)(process.pid, signum)
            err = end_of(process)
        finally:
            process.kill()
        assert "Traceback" not in err
        assert ("continuing after" in err) == (number > 0), err
        assert len(shards(output)) < NUM_SHARDS, "the run was over before the signal came"
        if signum == signal.SIGKILL:
            continue
        assert time.monotonic() - start_s < END_WITHIN_S
        assert process.returncode == 130, err
        *_, last = err.splitlines()
        assert last.startswith(
            "pad-pipeline: interrupted; what was finished is kept, the same command continues: "
            "pad-pipeline annotate "
        )
    process = start(images, output, ray_address=ray_address)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert f"data set: {output}" in out
    whole = start(images, tmp_path / "whole", ray_address=ray_address)
    out, err = whole.communicate(timeout=200)
    assert whole.returncode == 0, err
    assert len(shards(output)) == NUM_SHARDS
    assert shards(output) == shards(tmp_path / "whole")
    assert {path.name for path in output.iterdir()} == {
        path.name for path in (tmp_path / "whole").iterdir()
    }


@pytest.mark.usefixtures("local_ray")
def test_a_wrong_checkpoint_is_named_with_its_first_keys(
    images: Path, tmp_path: Path, capfd
) -> None:
    wrong = cli_place.RAM / "checkpoint.safetensors"
    words = ("annotate", images, tmp_path / "out", *OPTIONS, "--segment.model", wrong)
    outcome = call(capfd, *words)
    assert outcome.code == 1
    message = outcome.err.splitlines()[-1]
    assert message.startswith(f"pad-pipeline: error: {wrong} does not fit SAM")
    assert "image_encoder.patch_embed.proj.weight is missing" in message
    assert "Traceback" not in outcome.err
    assert shards(tmp_path / "out") == {}
