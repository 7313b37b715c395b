"""Commands of this program in files: found, and parsed without being run."""

from __future__ import annotations

import functools
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import tyro

from pad_pipeline.cli import main

_COMMAND = re.compile(r"(?<![\w/.-])pad-pipeline (?=[a-z-])(.*)")
_END = re.compile(r"[;&|>`')]|\s#\s|\\n")


def commands_in(text: str) -> Iterator[list[str]]:
    """The arguments of every `pad-pipeline …` of a script, a page or a manifest's entrypoint.

    Lines that end with a backslash go on; what follows a shell's separator does not belong.
    """
    for line in text.replace("\\\n", " ").splitlines():
        if line.lstrip().startswith("#"):
            continue
        for match in _COMMAND.finditer(line):
            words = shlex.split(_END.split(match[1])[0])
            yield [word for word in words if word != "$@"]


def parse(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> str | None:
    """The function that the command line calls for these arguments; it is not called.

    Fails the test where the command line refuses them. None where they ask for help.
    """
    called: list[str] = []
    register = tyro.extras.SubcommandApp.command

    def recording(app: Any, func: Any = None, **options: Any) -> Any:
        if func is None:
            return lambda func: recording(app, func, **options)
        if not isinstance(func, tyro.extras.SubcommandApp):
            func = _recorder(func, called)
        return register(app, func, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tyro.extras.SubcommandApp, "command", recording)
        try:
            main._commands(arguments).cli(prog=main.PROGRAM, args=arguments)
        except SystemExit as stop:
            if stop.code:
                pytest.fail(f"pad-pipeline {shlex.join(arguments)}: refused, see stderr")
    return called[0] if called else None


def _recorder(func: Callable[..., None], called: list[str]) -> Callable[..., None]:
    if isinstance(func, functools.partial):
        return functools.partial(_recorder(func.func, called), *func.args, **func.keywords)

    @functools.wraps(func)
    def record(*args: object, **options: object) -> None:
        called.append(func.__name__)

    return record
