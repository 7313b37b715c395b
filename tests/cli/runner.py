"""The command line called in this process, with what it leaves behind undone."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from pad_pipeline.cli.main import main

ERROR = "pad-pipeline: error: "


@dataclass(frozen=True)
class Outcome:
    """How a call ended and what it printed."""

    code: int
    out: str
    err: str

    @property
    def sentence(self) -> str:
        """The one error that it reported; fails where stderr holds anything else."""
        assert self.code == 1, (self.code, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith(ERROR), self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix(ERROR)


def call(capfd: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """The outcome of `pad-pipeline` with these arguments."""
    capfd.readouterr()
    code = 0
    with process_state_kept():
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    out, err = capfd.readouterr()
    return Outcome(code, out, err)


@contextmanager
def process_state_kept() -> Iterator[None]:
    """Logging and signals as they were: main() owns its process, a test does not."""
    loggers = [logging.getLogger(name) for name in ("pad_pipeline", None)]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
            logger.handlers[:] = handlers
            logger.setLevel(level)
            logger.propagate = propagate
        signal.signal(signal.SIGTERM, handler)
