"""The two passes in which arguments are parsed, and the types of which the tree of commands is."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, Union

import tyro
from tyro.conf import CascadeSubcommandArgs, DisallowNone, FlagCreatePairsOff, arg, subcommand
from tyro.constructors import ConstructorRegistry

from pad_pipeline.cli.help import (
    ALL_OPTIONS,
    HelpRules,
    format_overview,
    similar_names,
    with_flat_docstring,
)
from pad_pipeline.errors import UserError

PROGRAM = "pad-pipeline"

_DESCRIPTION = (
    "Annotate images with tags, boxes and masks (RAM, Grounding DINO, SAM on Ray), and train "
    "patch-aligned projectors on the result."
)

Command = Callable[..., None]

# A flag without --no-…, that the help of every command lists and any of them takes
_Everywhere = CascadeSubcommandArgs[FlagCreatePairsOff[bool]]


@dataclass(frozen=True)
class Group:
    """Commands behind a common word."""

    help: str
    commands: Mapping[str, Command]


Commands = Mapping[str, Command | Group]


class UsageError(UserError):
    """Words that name no command."""

    exit_code = 2


@dataclass(frozen=True, kw_only=True)
class EarlyOptions:
    """What must be known before a command can be parsed, wherever it stands among the arguments."""

    version: Annotated[FlagCreatePairsOff[bool], arg(aliases=["-V"])] = False
    debug: FlagCreatePairsOff[bool] = False
    ray_logs: bool = False
    preset: str = "paper"
    stage: str = "1"


def parse_early(argv: Sequence[str]) -> EarlyOptions:
    """The first pass: these options alone, all other arguments left for the second."""
    options, _ = tyro.cli(
        EarlyOptions, prog=PROGRAM, args=argv, add_help=False, return_unknown_args=True
    )
    return options


def run_command(commands: Commands, argv: Sequence[str]) -> None:
    """The second pass: call the command that the arguments name.

    Ends the process with code 2 where they cannot be parsed, with 0 after `--help`; raises
    `UsageError` where they name no command.
    """
    path = _find_command(commands, argv)
    show_all = ALL_OPTIONS in argv
    wants_help = show_all or "-h" in argv or "--help" in argv
    if not path:
        out = sys.stdout if wants_help else sys.stderr
        out.write(format_overview(PROGRAM, _DESCRIPTION, commands))
        raise SystemExit(0 if wants_help else 2)
    if wants_help:
        rules = HelpRules(show_all, shlex.join(path))
        try:
            parse(_for_help(commands), [*path, "--help"], rules.registry, (DisallowNone,))
        finally:
            if rules.any_hidden:
                command = shlex.join([PROGRAM, *path, ALL_OPTIONS])
                sys.stdout.write(
                    f"All options, with those on layouts, limits and memory: {command}\n"
                )
    else:
        parse(commands, argv)


def _for_help(commands: Commands) -> Commands:
    return {
        name: replace(command, commands=_for_help(command.commands))  # type: ignore[arg-type]
        if isinstance(command, Group)
        else with_flat_docstring(command)
        for name, command in commands.items()
    }


def _find_command(commands: Commands, argv: Sequence[str]) -> list[str]:
    """The words that name the command; raises `UsageError` where the first words do not."""
    path: list[str] = []
    for word in argv:
        if word.startswith("-"):
            continue
        if word not in commands:
            similar = similar_names(word, list(commands))
            hint = f"did you mean {' or '.join(similar)}?" if similar else _known(commands)
            raise UsageError(f"there is no command {' '.join([*path, word])!r}; {hint}")
        path.append(word)
        command = commands[word]
        if not isinstance(command, Group):
            break
        commands = command.commands
    return path


def _known(commands: Commands) -> str:
    return f"there are {', '.join(commands)}"


def parse(
    commands: Commands,
    argv: Sequence[str],
    registry: ConstructorRegistry | None = None,
    markers: Sequence[Any] = (),
) -> None:
    """Have tyro parse the words and call the command; `registry` says how to read its options, and
    `markers` are tyro's for all of them."""

    def program(command: Any, version: bool = False, debug: bool = False) -> None:
        """The program.

        Args:
            version: Print the version and exit.
            debug: Show tracebacks and all log lines.
        """

    version = Annotated[_Everywhere, arg(help_behavior_hint="", aliases=["-V"])]
    debug = Annotated[_Everywhere, arg(help_behavior_hint="")]
    program.__annotations__ = {"command": _choice(commands), "version": version, "debug": debug}
    tyro.cli(
        program,
        prog=PROGRAM,
        description=_DESCRIPTION,
        args=argv,
        registry=registry,
        config=markers,
    )


def _choice(commands: Commands) -> Any:
    """The type of an argument that is one of the commands."""
    kinds = []
    for name, command in commands.items():
        if isinstance(command, Group):
            kind = subcommand(name, constructor=_group(command), description=command.help)
        else:
            kind = subcommand(name, constructor=command)
        kinds.append(Annotated[Any, kind])
    return Annotated[Union[tuple(kinds)], arg(name="")]  # noqa: UP007


def _group(group: Group) -> Command:
    def choose(command: Any) -> None:
        del command

    choose.__annotations__ = {"command": _choice(group.commands)}
    return choose
