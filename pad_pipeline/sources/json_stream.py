"""JSON files read value by value, without holding the file in memory."""

from __future__ import annotations

import codecs
import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pad_pipeline import storage
from pad_pipeline.errors import UserError

LONGEST_VALUE = 16 << 20
"""Characters of one entry."""
_CHUNK_CHARACTERS = 4 << 20
_ENDS = frozenset(" \t\r\n,]}:")
_SPACE = re.compile(r"[ \t\n\r]*")
_KEY = re.compile(r'("[^"\\\n]{1,40}")\s*:')


def read_json_array(url: str) -> Iterator[Any]:
    """The elements of a JSON file that holds one list.

    Raises `UserError` with line and column where the text is no such list, and with its keys where
    it is one object.
    """
    with _open(url) as stream:
        if stream.peek() != "[":
            raise UserError(
                f"{url} should hold a JSON list of entries, which starts with '[', or an entry a "
                f"line; found {stream.what_is_next()}"
            )
        yield from stream.elements()
        stream.end()


def read_json_members(url: str) -> Iterator[tuple[str, Any]]:
    """The members of a JSON file that holds one object; those of a list come one by one.

    So `{"info": {}, "images": [1, 2]}` is ("info", {}), ("images", 1), ("images", 2). Raises
    `UserError` with line and column where the text is no such object.
    """
    with _open(url) as stream:
        if stream.peek() != "{":
            raise UserError(
                f"{url} should hold a JSON object, which starts with '{{'; "
                f"found {stream.what_is_next()}"
            )
        for name in stream.names():
            if stream.peek() == "[":
                yield from ((name, element) for element in stream.elements())
            else:
                yield name, stream.value()
        stream.end()


@contextmanager
def _open(url: str) -> Iterator[_Stream]:
    with storage.open_read(url) as file:
        head = file.read(2)
        file.seek(0)
        is_utf16 = head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        encoding = "utf-16" if is_utf16 else "utf-8-sig"
        yield _Stream(url, io.TextIOWrapper(file, encoding=encoding))


# Not ijson: it is 1.5 times as fast (558K entries of LLaVA in 1.1 s instead of 1.7), but refuses
# the NaN that `json.dumps` writes, turns halves of surrogate pairs into "?", does not say at which
# line a file is damaged, and runs out of memory on a hundred thousand opening brackets.
class _Stream:
    """A position in the text of a JSON file."""

    def __init__(self, url: str, reader: io.TextIOWrapper) -> None:
        self._url = url
        self._reader = reader
        self._decode = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._ended = "", 0, False
        self._lines = self._column = 0

    def peek(self) -> str:
        """The next character that is no space, "" at the end; leaves the position on it."""
        while True:
            self._at = _SPACE.match(self._buffer, self._at).end()  # type: ignore[union-attr]
            if self._at < len(self._buffer) or self._ended:
                return self._buffer[self._at : self._at + 1]
            self._fill()

    def what_is_next(self) -> str:
        """What stands here in place of what should, in words."""
        return _what_instead(self._buffer[self._at :])

    def value(self) -> Any:
        """The value that begins here; leaves the position behind it."""
        self.peek()
        while True:
            buffer = self._buffer
            try:
                element, end = self._decode(buffer, self._at)
                # A number may go on behind the buffer's end: 1|.5, 1.|5
                whole = self._ended or buffer[end : end + 1] in _ENDS
                message, position = "", self._at
            except json.JSONDecodeError as error:
                whole, element, end, message, position = False, None, self._at, error.msg, error.pos
            except ValueError as error:
                raise self._fail("a number has too many digits", self._at) from error
            except RecursionError as error:
                raise self._fail("nested too deeply", self._at) from error
            if whole:
                self._at = end
                return element
            if self._ended or len(buffer) - self._at > LONGEST_VALUE:
                raise self._fail(message or "expected ',' or ']'", position)
            self._fill()

    def elements(self) -> Iterator[Any]:
        """The elements of the list that begins here; leaves the position behind it."""
        self._at += 1
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self._separator("]") == "]":
                return

    def names(self) -> Iterator[str]:
        """The keys of the object that begins here; whoever takes one reads its value next."""
        self._at += 1
        if self.peek() == "}":
            self._at += 1
            return
        while True:
            if self.peek() != '"':
                raise self._fail("expected a key in double quotes", self._at)
            name = self.value()
            if self.peek() != ":":
                raise self._fail("expected ':'", self._at)
            self._at += 1
            yield name
            if self._separator("}") == "}":
                return

    def end(self) -> None:
        """Nothing but space may follow."""
        if self.peek():
            raise self._fail("text behind the end", self._at)

    def _separator(self, closing: str) -> str:
        found = self.peek()
        if found not in (",", closing) or not found:
            raise self._fail(f"expected ',' or '{closing}'", self._at)
        self._at += 1
        return found

    def _fill(self) -> None:
        newlines = self._buffer.count("\n", 0, self._at)
        self._lines += newlines
        self._column = (
            self._at - self._buffer.rfind("\n", 0, self._at) - 1
            if newlines
            else self._column + self._at
        )
        try:
            chunk = self._reader.read(_CHUNK_CHARACTERS)
        except UnicodeDecodeError as error:
            raise UserError(
                f"{self._url} is not UTF-8 text after line {self._lines + 1}: {error}"
            ) from error
        self._buffer, self._at, self._ended = self._buffer[self._at :] + chunk, 0, not chunk

    def _fail(self, message: str, position: int) -> UserError:
        newlines = self._buffer.count("\n", 0, position)
        here = (
            position - self._buffer.rfind("\n", 0, position)
            if newlines
            else self._column + position + 1
        )
        return UserError(
            f"{self._url} is damaged at line {self._lines + newlines + 1}, column {here}: {message}"
        )


def _what_instead(text: str) -> str:
    """What stands where a list should: the keys of an object, the first character of all else."""
    if not text:
        return "an empty file"
    if not text.startswith("{"):
        return repr(text[0])
    keys = list(dict.fromkeys(_KEY.findall(text[:4096])))[:5]
    what = f"one object with keys such as {', '.join(keys)}" if keys else "an object"
    if {'"images"', '"annotations"'} <= set(_KEY.findall(text)):
        what += " (COCO's annotations, which give captions and no list of images)"
    return what
