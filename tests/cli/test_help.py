"""The pages of `--help`, and what mistyped words get."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from pad_pipeline.cli.commands import build_commands
from pad_pipeline.cli.help import GROUPS
from tests.cli.runner import call


@pytest.mark.parametrize("option", ["-h", "--help", "--help-all"])
def test_the_overview_has_a_line_for_every_command(capfd, option: str) -> None:
    outcome = call(capfd, option)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert max(map(len, lines)) < 80
    listed = [name for names in GROUPS.values() for name in names]
    assert sorted(listed) == sorted(build_commands("paper"))
    for name in [*listed, "-V, --version", "--debug", "-h, --help", "--help-all"]:
        [line] = [line for line in lines if line.startswith(f"  {name}  ")]
        assert len(line.split()) >= 4
    for title in GROUPS:
        assert title in lines


def test_without_a_command_the_overview_goes_to_stderr(capfd) -> None:
    outcome = call(capfd)
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == call(capfd, "--help").out


@pytest.mark.parametrize("command", ["annotate", "plan", "serve"])
def test_the_first_help_of_a_long_command_is_short(capfd, monkeypatch, command: str) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    first = call(capfd, command, "--help").out
    assert len(first.splitlines()) < 80
    assert "--tag.model" in first
    assert ".pool." not in first
    assert first.endswith(f"pad-pipeline {command} --help-all\n")
    every = call(capfd, command, "--help-all").out
    assert "--segment.pool.gpus" in every
    assert "--help-all" not in every


def test_a_description_is_one_paragraph(capfd, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    lines = call(capfd, "annotate", "--help-all").out.splitlines()
    start = next(index for index, line in enumerate(lines) if "`fused` puts" in line)
    assert "`pools` gives every" in " ".join(line.strip("│ ") for line in lines[start : start + 3])


def test_the_pages_say_what_one_types(capfd, monkeypatch) -> None:
    """No Python: no None among the values, no names of settings, no line breaks of docstrings."""
    monkeypatch.setenv("COLUMNS", "80")
    page = call(capfd, "train", "finetune", "--help").out
    assert "None}" not in page
    assert "--max-steps INT" in page
    assert "`--micro-batch`. 0 pads." in page
    for command, ragged in (("experiment", "caption loss out,"), ("evaluate alignment", "labels,")):
        lines = [
            line.strip("│ ") for line in call(capfd, *command.split(), "--help").out.split("\n")
        ]
        assert not any(line.endswith(ragged) and len(line) < 40 for line in lines)
    every = call(capfd, "serve", "--help-all").out
    assert "--detect.model" in every
    assert "--detect.boxes" not in every  # a service has no list of images that boxes could be of


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("annotat photos out", "there is no command 'annotat'; did you mean annotate?"),
        ("modles list", "there is no command 'modles'; did you mean models?"),
        ("train pretran x", "there is no command 'train pretran'; did you mean pretrain?"),
        ("models xyz", "there is no command 'models xyz'; there are list, fetch, convert"),
    ],
)
def test_a_mistyped_command_is_answered_once(capfd, words: str, hint: str) -> None:
    outcome = call(capfd, *words.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"pad-pipeline: error: {hint}")
    assert outcome.err.count("\n") == 1


def test_a_mistyped_option_is_answered_with_the_one_meant(capfd) -> None:
    outcome = call(capfd, "annotate", "photos", "out", "--chunksize", "3")
    assert outcome.code == 2
    assert outcome.err.count("--chunk-size") == 1


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_of_the_shell(capfd, shell: str) -> None:
    outcome = call(capfd, "completion", shell)
    assert outcome.code == 0, outcome.err
    for name in ("annotate", "retry-failed", "pretrain"):
        assert name in outcome.out
    if shutil.which(shell):
        check = [shell, "--no-execute" if shell == "fish" else "-n"]
        done = subprocess.run(check, input=outcome.out, text=True, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
