"""The flags that stand for settings of the library, in messages, log lines and commands."""

from __future__ import annotations

import logging

import pytest

from pad_pipeline.cli.main import _log_to_stderr
from pad_pipeline.cli.options import to_flag, to_words
from pad_pipeline.errors import Setting, UserError
from tests.cli.runner import process_state_kept


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (Setting("chunk_size"), ["--chunk-size"]),
        (Setting("chunk_size", 48), ["--chunk-size", "48"]),
        (Setting("tag.pool.max_workers", 3), ["--tag.pool.max-workers", "3"]),
        (Setting("learning_rate", 1e-3), ["--learning-rate", "0.001"]),
        (Setting("device", "cpu"), ["--device", "cpu"]),
        (Setting("ray_logs", True), ["--ray-logs"]),
        (Setting("compile", False), ["--no-compile"]),
        (Setting("suppress.per_class", False), ["--suppress.no-per-class"]),
        (Setting("num_gpus", 8), ["--gpus", "8"]),
    ],
)
def test_the_command_line_writes_a_setting_as_a_flag(setting: Setting, words: list[str]) -> None:
    assert to_words(setting) == words
    assert to_flag(setting) == " ".join(words)


def test_an_error_names_flags_on_the_command_line() -> None:
    error = UserError(Setting("min_area", 5), " is above ", Setting("max_area"))
    assert error.spell(to_flag) == "--min-area 5 is above --max-area"


def test_a_log_line_names_flags_on_the_command_line(capfd) -> None:
    with process_state_kept():
        _log_to_stderr(debug=False)
        logging.getLogger("pad_pipeline.engine").warning(
            "lower %s of %d workers", Setting("tag.pool.gpus"), 3
        )
    assert capfd.readouterr().err == "lower --tag.pool.gpus of 3 workers\n"
