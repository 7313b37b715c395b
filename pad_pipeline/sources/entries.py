"""Entries of JSON, JSONL and Parquet manifests: which key holds the image, its id, its caption."""

from __future__ import annotations

import codecs
import json
import reprlib
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

from fsspec.spec import AbstractBufferedFile

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources.conversations import (
    ConversationError,
    has_conversation,
    read_conversation,
)
from pad_pipeline.sources.json_stream import LONGEST_VALUE, read_json_array

PATH_KEYS = ("image", "path", "file_name", "filename", "image_path", "uri", "url", "image_url")
BYTES_KEYS = ("image", "jpg", "jpeg", "png", "webp", "bytes", "image_bytes")
ID_KEYS = ("image_id", "id", "key")
CAPTION_KEYS = ("caption", "text", "captions")

_LINE_PART = 16 << 10
_LONGEST_LINE = 768 << 20  # a picture of the largest size in base64
_MOST_MARKS = 1_000_000


def first_of(entry: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    """The value of the first of `keys` that is there and not null; None otherwise."""
    return next((entry[key] for key in keys if entry.get(key) is not None), None)


def captions_of(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """The captions: of a conversation the first answer, else the caption or text, or a list."""
    if has_conversation(entry):
        try:
            answer = read_conversation(entry).first_answer
        except ConversationError:
            return ()
        return () if answer is None else (answer,)
    return as_captions(first_of(entry, CAPTION_KEYS))


def caption_of(entry: Mapping[str, Any]) -> str | None:
    """The first of `captions_of`; None without one."""
    return next(iter(captions_of(entry)), None)


def as_captions(value: Any) -> tuple[str, ...]:
    """`value` as captions: a string, or the strings of a list; none for all else."""
    values = value if isinstance(value, list) else [value]
    return tuple(one for one in values if isinstance(one, str))


def as_tags(value: Any, where: str) -> tuple[str, ...]:
    """`value` as the tags of an image: a list of strings, or a string with commas.

    Raises `UserError`, which begins with `where`, for all else; null are none.
    """
    values = value.split(",") if isinstance(value, str) else [] if value is None else value
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise UserError(f"{where} should have tags as a list of texts, found {describe(value)}")
    return tuple(dict.fromkeys(" ".join(one.split()) for one in values if one.strip()))


def as_name(value: Any, where: str) -> str:
    """An id as text; raises `UserError` where it is no text or number."""
    if isinstance(value, str | int | float):
        return str(value)
    raise UserError(f"{where} should have an id that is text or a number, found {describe(value)}")


def describe(value: Any) -> str:
    """The beginning of a value for a message, however deeply it is nested."""
    try:
        return repr(str(value)[:80])
    except RecursionError:
        return repr(reprlib.repr(value))


def is_json_lines(url: str) -> bool:
    """Whether a file holds JSON Lines and not one JSON value, by its content.

    `datasets.to_json` writes lines into files that end in .json. Raises `UserError` where the text
    is of an encoding that cannot be read line by line.
    """
    with storage.open_read(url) as file:
        head = file.read(4)
        if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            return False
        file.seek(0)
        line = _next_line(file, LONGEST_VALUE).removeprefix(codecs.BOM_UTF8).strip()
        is_named_so = url.lower().endswith((".jsonl", ".ndjson"))
        if not is_named_so and not line.startswith(b"{"):
            return False
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            return is_named_so and not line.startswith(b"[")  # else a value over several lines
        if is_named_so:
            return not (isinstance(value, list) and value and isinstance(value[0], dict))
        return bool(_next_line(file))


def read_line(file: BinaryIO, most_bytes: int) -> bytes:
    """A line, no more than `most_bytes` of it; fsspec's remote files know no such bound."""
    if not isinstance(file, AbstractBufferedFile):
        return file.readline(most_bytes)
    parts: list[bytes] = []
    left = most_bytes
    while left > 0:
        start = file.tell()
        part = file.read(min(_LINE_PART, left))
        end = part.find(b"\n") + 1
        if end:
            file.seek(start + end)
            part = part[:end]
        parts.append(part)
        left -= len(part)
        if end or not part:
            break
    return b"".join(parts)


def _next_line(file: BinaryIO, most_bytes: int = 4096) -> bytes:
    """The next line that is not empty, no more than `most_bytes` of it; b"" at the end."""
    lines = iter(lambda: read_line(file, most_bytes + 1), b"")
    return next((line for line in lines if line.strip()), b"")


def read_entries(url: str) -> Iterator[Any]:
    """The entries of a file of JSON Lines or of one JSON list, whichever it holds."""
    if is_json_lines(url):
        yield from (value for _, _, value in read_json_lines(url))
    else:
        yield from read_json_array(url)


def read_json_lines(url: str) -> Iterator[tuple[int, int, Any]]:
    """(byte offset, byte length, value) of every line of a JSONL file; empty lines are left out.

    Raises `UserError` with the number of the line that is no JSON.
    """
    with storage.open_read(url) as file:
        offset = 0
        for number, line in enumerate(iter(lambda: read_line(file, _LONGEST_LINE + 1), b""), 1):
            if len(line) > LONGEST_VALUE and (
                len(line) > _LONGEST_LINE or sum(map(line.count, (b",", b"[", b"{"))) > _MOST_MARKS
            ):
                raise UserError(f"{url} is damaged at line {number}: {len(line):,} bytes or more")
            text = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if text.strip():
                try:
                    value = json.loads(text)
                except (ValueError, RecursionError) as error:
                    raise UserError(f"{url} is damaged at line {number}: {error}") from error
                yield offset, len(line), value
            offset += len(line)
