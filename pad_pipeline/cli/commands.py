"""The tree of commands, and the two passes in which arguments are parsed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Union

import tyro
from tyro.conf import CascadeSubcommandArgs, FlagCreatePairsOff, arg, subcommand

from pad_pipeline.cli import annotate, dataset, evaluate, models, serve, train, view
from pad_pipeline.cli.options import choose_preset
from pad_pipeline.engine.config import PRESETS
from pad_pipeline.serve.config import ServiceConfig
from pad_pipeline.train.run.config import PRESETS as TRAIN_PRESETS

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


@dataclass(frozen=True, kw_only=True)
class EarlyOptions:
    """What must be known before a command can be parsed, wherever it stands among the arguments."""

    version: FlagCreatePairsOff[bool] = False
    debug: FlagCreatePairsOff[bool] = False
    ray_logs: bool = False
    preset: str = "paper"


def parse_early(argv: Sequence[str]) -> EarlyOptions:
    """The first pass: these options alone, all other arguments left for the second."""
    options, _ = tyro.cli(
        EarlyOptions, prog=PROGRAM, args=argv, add_help=False, return_unknown_args=True
    )
    return options


def build_commands(preset: str) -> Commands:
    """All commands; a preset sets the defaults of those that have a config.

    Raises `UserError` for a preset that does not exist.
    """
    config = choose_preset(preset, PRESETS)
    # a preset that training does not have is refused by the type of its option
    for_training = preset if preset in TRAIN_PRESETS["pretrain"] else "paper"
    stage1, stage2 = (TRAIN_PRESETS[name][for_training]() for name in ("pretrain", "finetune"))
    return {
        "annotate": partial(annotate.annotate, config=config),
        "plan": partial(annotate.plan, config=config),
        "serve": partial(serve.serve, config=config, service=ServiceConfig()),
        "status": annotate.status,
        "retry-failed": annotate.retry_failed,
        "demo": annotate.demo,
        "export": dataset.export,
        "validate": dataset.validate,
        "stats": dataset.stats,
        "render": dataset.render,
        "models": Group(
            "List, convert and verify models.",
            {"list": models.list_models, "convert": models.convert, "verify": models.verify},
        ),
        "train": Group(
            "Train projectors and language models; inspect and export.",
            {
                "pretrain": partial(train.pretrain, config=stage1),
                "finetune": partial(train.finetune, config=stage2),
                "inspect": partial(train.inspect, config=stage1),
                "export": train.export,
            },
        ),
        "view": view.view,
        "show": dataset.show,
        "analyze": evaluate.analyze,
        "evaluate": Group(
            "Evaluate projectors and models: alignment, captions, boxes, questions.",
            {
                "alignment": evaluate.analyze,
                "captions": evaluate.captions,
                "referring": evaluate.referring,
                "vqa": evaluate.vqa,
                "score": evaluate.score,
            },
        ),
        "reproduce": evaluate.reproduce,
    }


def run_command(commands: Commands, argv: Sequence[str]) -> None:
    """The second pass: call the command that the arguments name.

    Ends the process with code 2 where they cannot be parsed, with 0 after `--help`.
    """

    def program(command: Any, version: bool = False, debug: bool = False) -> None:
        """The program.

        Args:
            version: Print the version and exit.
            debug: Show tracebacks and all log lines.
        """

    flag = Annotated[_Everywhere, arg(help_behavior_hint="")]
    program.__annotations__ = {"command": _choice(commands), "version": flag, "debug": flag}
    tyro.cli(program, prog=PROGRAM, description=_DESCRIPTION, args=argv)


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
