"""What `--help` shows: the commands in groups, and of a long list of options the common ones."""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import re
import textwrap
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial, update_wrapper
from types import FunctionType
from typing import Any

from tyro.conf import Suppress
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from pad_pipeline.cli.options import RayOptions, SubsetOptions
from pad_pipeline.engine import config as engine

ALL_OPTIONS = "--help-all"

GROUPS = {
    "Annotate": ("annotate", "plan", "status", "retry-failed", "demo"),
    "Data set": (
        *("view", "show", "stats", "validate", "render", "export", "import"),
        *("embed", "duplicates"),
    ),
    "Train": ("conversations", "train", "evaluate", "analyze", "reproduce", "experiment"),
    "Models": ("models",),
    "Serve": ("serve",),
    "Shell": ("completion",),
}
"""The commands in the order and groups in which `--help` lists them."""

COMMON_OPTIONS: Mapping[type, frozenset[str]] = {
    engine.AnnotateConfig: frozenset({"tag", "detect", "segment", "classes", "device"}),
    engine.TagConfig: frozenset({"from_", "model"}),
    engine.DetectConfig: frozenset({"boxes", "model", "box_threshold"}),
    engine.SegmentConfig: frozenset({"model"}),
    RayOptions: frozenset(),
    SubsetOptions: frozenset({"limit", "ids"}),
}
"""Of these classes, the settings that a first look needs; `--help-all` shows the others too."""


_USELESS: Mapping[str, Mapping[type, frozenset[str]]] = {
    "serve": {engine.DetectConfig: frozenset({"boxes"})}
}
"""Settings that a command has from a shared class and cannot use."""


class HelpRules:
    """How tyro reads the classes of options when it is about to print help.

    The sentences of a description become one paragraph, in which other settings have the names of
    their options; settings that the `command` cannot use are left out, and without `show_all` those
    of `COMMON_OPTIONS`' classes that are not named there.
    """

    def __init__(self, show_all: bool, command: str) -> None:
        self.registry = ConstructorRegistry()
        """What `tyro.cli` takes."""
        self._shown = {} if show_all else COMMON_OPTIONS
        self._useless = _USELESS.get(command, {})
        self.any_hidden = False
        """Whether an option was left out, once help has been printed."""
        self._inside = False
        self.registry.struct_rule(self._rule)

    def _rule(self, info: StructTypeInfo) -> StructConstructorSpec | None:
        if self._inside:
            return None
        self._inside = True
        try:
            spec = ConstructorRegistry.get_struct_spec(info)
        finally:
            self._inside = False
        if not isinstance(spec, StructConstructorSpec):
            return None
        kind: Any = info.type
        shown = self._shown.get(kind) if isinstance(kind, type) else None
        useless = self._useless.get(kind, ()) if isinstance(kind, type) else ()
        names = {field.name for field in spec.fields}
        fields = []
        for field in spec.fields:
            rare = shown is not None and field.name not in shown
            self.any_hidden |= rare
            hidden = rare or field.name in useless
            fields.append(
                dataclasses.replace(
                    field,
                    type=Suppress[field.type] if hidden else field.type,
                    helptext=partial(_one_paragraph, field.helptext, names),
                )
            )
        return dataclasses.replace(spec, fields=tuple(fields))


def _one_paragraph(
    text: str | Callable[[], str | None] | None, names: Collection[str]
) -> str | None:
    """The text on one line; settings among `names` are written as their options."""
    found = text() if callable(text) else text
    if found is None:
        return None

    def as_option(word: re.Match[str]) -> str:
        is_python = word[1] in names and "_" in word[1]
        return f"`--{word[1].replace('_', '-')}`" if is_python else word[0]

    return re.sub(r"`(\w+)`", as_option, " ".join(found.split()))


def with_flat_docstring(command: Callable[..., None]) -> Callable[..., None]:
    """The command, each of whose arguments is described on one line of its docstring.

    tyro keeps some of the line breaks of a function's docstring, and none of these are wanted.
    """
    if isinstance(command, partial):
        return partial(with_flat_docstring(command.func), *command.args, **command.keywords)
    assert isinstance(command, FunctionType), command
    copy = FunctionType(
        command.__code__,
        command.__globals__,
        command.__name__,
        command.__defaults__,
        command.__closure__,
    )
    update_wrapper(copy, command)
    del copy.__wrapped__
    copy.__kwdefaults__ = command.__kwdefaults__
    copy.__doc__ = re.sub(r"\n {8,}(?=\S)", " ", inspect.getdoc(command) or "")
    return copy


def format_overview(program: str, about: str, commands: Mapping[str, Any]) -> str:
    """All commands in their groups, a line each.

    Args:
        program: What one types.
        about: A sentence or two on the program.
        commands: Functions, or objects with a `help`, by name.
    """
    rows = {
        title: {name: summary(commands[name]) for name in names} for title, names in GROUPS.items()
    }
    rows["Everywhere"] = {
        "-h, --help": "Show the options of a command, or this page.",
        ALL_OPTIONS: "Show the rare options too.",
        "-V, --version": "Print the version and exit.",
        "--debug": "Show tracebacks and all log lines.",
    }
    width = max(len(name) for row in rows.values() for name in row)
    lines = [f"usage: {program} COMMAND [OPTIONS]", "", *textwrap.wrap(about, 78)]
    for title, row in rows.items():
        lines += ["", title, *(f"  {name:<{width}}  {text}" for name, text in row.items())]
    return "\n".join(lines) + "\n"


def summary(command: Any) -> str:
    """The first sentence of what a command says of itself."""
    while isinstance(command, partial):
        command = command.func
    text = getattr(command, "help", None) or inspect.getdoc(command) or ""
    return " ".join(text.split("\n\n")[0].split())


def similar_names(word: str, names: Sequence[str]) -> list[str]:
    """The names that one may have meant by a word, best first."""
    return difflib.get_close_matches(word, names, n=2, cutoff=0.6)
