"""The record batches of an Arrow file: a stream, read by byte, or a Feather file, by number."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.ipc as ipc

from pad_pipeline import storage
from pad_pipeline.errors import UserError, short_line
from pad_pipeline.sources.tables import DAMAGED

ARROW_DAMAGED = (*DAMAGED, MemoryError, EOFError)
"""What damage of an Arrow file raises beside OSError."""

_FEATHER_MAGIC = b"ARROW1"


def read_schema(url: str) -> pa.Schema:
    """The columns of an Arrow file; raises `UserError` where it is none."""
    with storage.open_read(url) as file:
        if _is_feather(file):
            return _open_feather(url, file, None).schema
        return ipc.read_schema(next(_messages(url, file))[0])


def list_batches(url: str, names: Collection[str]) -> Iterator[tuple[pa.RecordBatch, int]]:
    """Every batch, with the columns of these names, and its place for `read_column`."""
    with storage.open_read(url) as file:
        if _is_feather(file):
            reader = _open_feather(url, file, names)
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number), number
            return
        messages = _messages(url, file)
        first, _ = next(messages)
        schema, head = ipc.read_schema(first), [first.serialize()]
        for message, offset in messages:
            if message.type == "record batch":
                yield _decode([*head, message.serialize()], schema, names), offset
            else:
                head.append(message.serialize())


def read_column(url: str, name: str, place: int) -> pa.Array:
    """One column of the batch at a place; raises OSError where none is there."""
    with storage.open_read(url) as file:
        if _is_feather(file):
            reader = _open_feather(url, file, {name})
            if not 0 <= place < reader.num_record_batches:
                raise OSError(f"{url} has no batch {place}")
            return reader.get_batch(place).column(name)
        messages = _messages(url, file)
        first, _ = next(messages)
        schema, head = ipc.read_schema(first), [first.serialize()]
        if any("dictionary<" in str(field.type) for field in schema):
            for message, start in messages:
                if start >= place:
                    break
                if message.type == "dictionary":
                    head.append(message.serialize())
        found = next(_messages(url, file, place), None)
        if found is None or found[0].type != "record batch":
            raise OSError(f"{url} has no batch at byte {place}")
        return _decode([*head, found[0].serialize()], schema, {name}).column(name)


def _is_feather(file: BinaryIO) -> bool:
    is_feather = file.read(len(_FEATHER_MAGIC)) == _FEATHER_MAGIC
    file.seek(0)
    return is_feather


def _open_feather(
    url: str, file: BinaryIO, names: Collection[str] | None
) -> ipc.RecordBatchFileReader:
    try:
        reader = ipc.open_file(file)
        if names is None:
            return reader
        file.seek(0)
        return ipc.open_file(file, options=_options(reader.schema, names))
    except storage.RetriesExhausted:
        raise
    except (*ARROW_DAMAGED, OSError) as error:
        raise UserError(f"{url} is not a readable Arrow file: {short_line(error)}") from error


def _decode(
    messages: Sequence[pa.Buffer], schema: pa.Schema, names: Collection[str]
) -> pa.RecordBatch:
    """The batch at the end of a stream of messages."""
    data = b"".join(messages)
    return ipc.open_stream(data, options=_options(schema, names)).read_next_batch()


def _options(schema: pa.Schema, names: Collection[str]) -> ipc.IpcReadOptions:
    fields = [index for index, name in enumerate(schema.names) if name in names]
    return ipc.IpcReadOptions(use_threads=False, included_fields=fields)


def _messages(url: str, file: BinaryIO, start: int = 0) -> Iterator[tuple[Any, int]]:
    """The messages of a stream from a byte on, each with its own offset; the schema is the first.

    Raises `UserError` where it is damaged.
    """
    file.seek(start)
    reader = pa.PythonFile(file, mode="r")
    is_first = True
    while True:
        offset = reader.tell()
        try:
            message = ipc.read_message(reader)
        except EOFError:
            if is_first and not start:
                raise UserError(f"{url} is not a readable Arrow file: it has no schema") from None
            return
        except storage.RetriesExhausted:
            raise
        except (*ARROW_DAMAGED, OSError) as error:
            what = f"is damaged at byte {offset}" if offset else "is not a readable Arrow file"
            raise UserError(f"{url} {what}: {short_line(error)}") from error
        yield message, offset
        is_first = False
