"""JSON read value by value gives what `json` gives, wherever a part of the file ends."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources import json_stream
from pad_pipeline.sources.json_stream import read_json_array, read_json_members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def read(function: Callable[[str], Iterator[Any]], text: str, chunk: int) -> list[Any]:
    url = "memory://json_stream/x.json"
    storage.write_atomic(url, text.encode("utf-8", "surrogatepass"))
    before = json_stream._CHUNK_CHARACTERS
    json_stream._CHUNK_CHARACTERS = chunk
    try:
        return list(function(url))
    finally:
        json_stream._CHUNK_CHARACTERS = before


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(VALUES, max_size=6),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
)
def test_a_list(values: list[Any], chunk: int, indent: int | None, ascii_only: bool) -> None:
    text = json.dumps(values, indent=indent, ensure_ascii=ascii_only)
    assert read(read_json_array, text, chunk) == values


@settings(max_examples=100, deadline=None)
@given(
    members=st.dictionaries(st.text(), VALUES, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
)
def test_an_object(members: dict[str, Any], chunk: int, indent: int | None) -> None:
    found = read(read_json_members, json.dumps(members, indent=indent), chunk)
    assert found == [
        (name, one)
        for name, value in members.items()
        for one in (value if isinstance(value, list) else [value])
    ]


@settings(max_examples=50, deadline=None)
@given(data=st.data(), chunk=st.integers(1, 40))
def test_positions_do_not_depend_on_chunks(data: st.DataObject, chunk: int) -> None:
    text = json.dumps([{"a": "x\ny", "b": [1, 2]}] * 5, indent=1)
    cut = data.draw(st.integers(1, len(text) - 1))
    broken = text[:cut] + "\x01" + text[cut:]

    def message(chunk: int) -> str:
        with pytest.raises(UserError) as raised:
            read(read_json_array, broken, chunk)
        return str(raised.value)

    whole = message(1 << 20)
    assert message(chunk) == whole
    position = re.search(r"line (\d+), column (\d+)", whole)
    assert position is not None
    assert abs(int(position[1]) - len(broken[:cut].split("\n"))) <= 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"should hold a JSON object, which starts with '\{'; found an empty file"),
        ("[1]", r"starts with '\{'; found '\['"),
        ('{"a": 1', "damaged at line 1, column 8: expected ',' or '}'"),
        ('{"a": [1, 2', "column 12: expected ',' or ']'"),
        ('{"a" 1}', "column 6: expected ':'"),
        ("{a: 1}", "column 2: expected a key in double quotes"),
        ('{"a": 1} x', "column 10: text behind the end"),
        ('{"a": ' + '{"b":' * 200_000, "nested too deeply"),
    ],
)
def test_what_is_no_object_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read(read_json_members, text, 1 << 20)
