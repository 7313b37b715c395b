"""The command line without Ray: one sentence for what is wrong, and nothing half-written."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from tests.cli import place as cli_place
from tests.cli.cases import ERRORS, USAGE, arguments_of
from tests.cli.runner import call


@pytest.mark.parametrize("case", ERRORS)
def test_one_sentence_says_what_is_wrong(here: Path, tmp_path: Path, capfd, case: str) -> None:
    if "GPU" in case and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    if "full disk" in case and not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    line, fragments = ERRORS[case]
    output = tmp_path / "out"
    outcome = call(capfd, *arguments_of(line, output))
    sentence = outcome.sentence
    for fragment in fragments:
        assert fragment in sentence, sentence
    assert outcome.out == "" or line.startswith("stats sound")
    leaves_nothing_to_trust(tmp_path)


def leaves_nothing_to_trust(folder: Path) -> None:
    """At most an empty folder, or a run that has begun with no record in it."""
    left = cli_place.files(folder)
    assert left.keys() <= {"out/_manifest.json", "out/_run/images.parquet"}
    if "out/_manifest.json" in left:
        assert json.loads(left["out/_manifest.json"])["state"] == "running"


@pytest.mark.parametrize("case", ["empty folder", "stats of nothing", "conversion of junk"])
def test_with_debug_the_traceback_comes_through(
    here: Path, tmp_path: Path, capfd, case: str
) -> None:
    words = arguments_of(ERRORS[case][0], tmp_path / "out")
    with pytest.raises(UserError):
        call(capfd, *words, "--debug")
    with pytest.raises(UserError):
        call(capfd, "--debug", *words)


def test_a_process_ends_with_1_and_a_traceback_with_debug_only(here: Path) -> None:
    command = [sys.executable, "-m", "pad_pipeline", "stats", "nowhere"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert plain.returncode == 1
    assert plain.stderr.startswith("pad-pipeline: error: expected a data set")
    assert plain.stderr.count("\n") == 1
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, check=False)
    assert debug.returncode == 1
    assert "Traceback (most recent call last)" in debug.stderr
    assert "UserError: expected a data set" in debug.stderr


@pytest.mark.parametrize("case", USAGE)
def test_what_cannot_be_parsed_ends_with_2(here: Path, tmp_path: Path, capfd, case: str) -> None:
    outcome = call(capfd, *arguments_of(USAGE[case], tmp_path / "out"))
    assert outcome.code == 2
    assert outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (errno.ENOSPC, "no space is left on the device"),
        (errno.EDQUOT, "no space is left on the device"),
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "as the kernel says"),
    ],
)
def test_an_output_that_cannot_be_written_is_explained(
    here: Path, tmp_path: Path, capfd, monkeypatch, code: int, reason: str
) -> None:
    monkeypatch.setattr(storage.atomic, "write_local", cli_place.failing(code))
    outcome = call(capfd, "annotate", "images", tmp_path / "out", "--preset", "demo")
    assert f"cannot write to {tmp_path / 'out'}" in outcome.sentence
    assert reason in outcome.sentence
    leaves_nothing_to_trust(tmp_path)


@pytest.mark.parametrize("format", ["pad-json", "coco", "llava"])
def test_an_export_that_cannot_be_finished_leaves_nothing(
    here: Path, tmp_path: Path, capfd, monkeypatch, format: str
) -> None:
    def fail(*names: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pad_pipeline.storage.atomic.os.replace", fail)
    outcome = call(capfd, "export", "sound", tmp_path / "out", "--format", format)
    assert "no space is left on the device" in outcome.sentence
    assert list(tmp_path.iterdir()) == []


def test_any_other_failing_file_is_reported_without_a_traceback(
    here: Path, tmp_path: Path, capfd, monkeypatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files", "some/file")

    monkeypatch.setattr("pad_pipeline.dataset.stats.compute_stats", fail)
    outcome = call(capfd, "stats", "sound")
    assert "Too many open files: 'some/file'" in outcome.sentence
    assert "--debug" in outcome.sentence


def test_a_reader_that_goes_away_ends_the_program_quietly(here: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", "pad_pipeline", "validate", "sound"],
        stdout=write,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(write)
    assert done.stderr == ""
    assert done.returncode == 1
