"""Messages for users: settings in them, and their way through a process."""

from __future__ import annotations

import ast
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

from pad_pipeline.errors import Setting, UserError, first_line


def test_a_setting_reads_as_python_writes_it() -> None:
    assert str(Setting("chunk_size")) == "chunk_size"
    assert str(Setting("chunk_size", 48)) == "chunk_size=48"
    assert str(Setting("device", "cpu")) == "device='cpu'"
    assert str(Setting("fused.max_workers", None)) == "fused.max_workers=None"


def test_a_message_is_its_parts_joined_and_survives_pickling_and_json() -> None:
    error = UserError(Setting("min_area", 5), " is above ", Setting("max_area"), "; swap them")
    through_json = UserError.from_json(json.loads(json.dumps(error.to_json())))
    for each in (error, pickle.loads(pickle.dumps(error)), through_json):
        assert str(each) == "min_area=5 is above max_area; swap them"
        assert each.spell(lambda setting: f"<{setting.name}>") == (
            "<min_area> is above <max_area>; swap them"
        )
    assert str(UserError("one text")) == "one text"


def test_the_first_line_of_a_silent_error_is_its_type() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"
    assert first_line(UserError(Setting("seed"), " is odd")) == "seed is odd"


PACKAGE = Path(__file__).parents[1] / "pad_pipeline"
FLAG = re.compile(r"(?<![\w`{-])--[a-z]")
COMMAND = re.compile(r"pad-pipeline|`ray |curl |for tar:|for LLaVA")
"""What may stand before a flag: the name of the program that takes it."""


def flags_in(source: str) -> Iterator[str]:
    """The texts of a module that name a flag without its program, docstrings among them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            text = "".join(
                part.value if isinstance(part, ast.Constant) else "{}" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        found = FLAG.search(text)
        if found and re.fullmatch(r"--[a-z_-]+", text):
            continue  # a word of another program's command line
        if found and not COMMAND.search(text[: found.start()]):
            yield text


def test_the_library_does_not_speak_in_flags() -> None:
    found = [
        (path.relative_to(PACKAGE).as_posix(), text)
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] != "cli"
        for text in flags_in(path.read_text(encoding="utf-8"))
    ]
    assert found == []


def test_a_flag_in_a_message_would_be_seen() -> None:
    assert list(flags_in('raise UserError(f"{name} is longer than --max-length {n}")'))
    assert list(flags_in('raise UserError("--width must be positive")'))
    assert not list(flags_in('"run `pad-pipeline view DATA --images FOLDER`"'))
