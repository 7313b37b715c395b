"""Commands of this program in files: found, and parsed without being run."""

from __future__ import annotations

import dataclasses
import functools
import re
import shlex
from collections.abc import Callable, Iterator

import pytest

from pad_pipeline.cli.commands import build_commands
from pad_pipeline.cli.parsing import Command, Commands, Group, parse_early, run_command

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


def parse(arguments: list[str]) -> str | None:
    """The function that the command line calls for these arguments; it is not called.

    Fails the test where the command line refuses them. None where they ask for help.
    """
    called: list[str] = []
    commands = _recorded(build_commands(parse_early(arguments).preset), called)
    try:
        run_command(commands, arguments)
    except SystemExit as stop:
        if stop.code:
            pytest.fail(f"pad-pipeline {shlex.join(arguments)}: refused, see stderr")
    return called[0] if called else None


def _recorded(commands: Commands, called: list[str]) -> dict[str, Command | Group]:
    return {
        name: dataclasses.replace(command, commands=_recorded(command.commands, called))
        if isinstance(command, Group)
        else _recorder(command, called)
        for name, command in commands.items()
    }


def _recorder(func: Callable[..., None], called: list[str]) -> Callable[..., None]:
    if isinstance(func, functools.partial):
        return functools.partial(_recorder(func.func, called), *func.args, **func.keywords)

    @functools.wraps(func)
    def record(*args: object, **options: object) -> None:
        called.append(func.__name__)

    return record
