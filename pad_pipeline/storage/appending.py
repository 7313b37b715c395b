"""Files of lines to which several processes add, on this machine or on S3; no line is lost."""

from __future__ import annotations

import fcntl
import logging
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from pad_pipeline.errors import UserError
from pad_pipeline.storage.errors import user_errors
from pad_pipeline.storage.files import exists, read_bytes
from pad_pipeline.storage.filesystems import filesystem
from pad_pipeline.storage.locks import NO_LOCKS
from pad_pipeline.storage.urls import local_path, protocol

logger = logging.getLogger(__name__)

_MAX_PAUSE_S = 0.5
_COMPARED_BYTES = 256
_GIVE_UP_S = 60.0

_checked_buckets: set[str] = set()
_checking = threading.Lock()


class LinesFile(Protocol):
    """A file of lines; one object follows it, from its beginning on. For one thread at a time."""

    def read_new(self) -> bytes | None:
        """The whole lines that were added since the last call; None where it was written anew.

        After None, the next call begins at the file's beginning. A last line without its end is
        not whole yet. A missing file is empty. Raises `UserError` where it cannot be read.
        """
        ...

    def append(self, lines: bytes) -> None:
        """Adds whole lines in one step; they are on the disk when it returns.

        Makes the file where it is missing. Raises `UserError` where that is not possible.
        """
        ...


def lines_file(url: str) -> LinesFile:
    """The file at a path or URL; it need not be there yet. Only local ones and S3's can grow."""
    path = local_path(url)
    if path is not None:
        return _LocalLines(url, path)
    if protocol(url) in ("s3", "s3a"):
        return _S3Lines(url)
    return _OtherLines(url)


class _LocalLines:
    def __init__(self, url: str, path: Path) -> None:
        self._url, self._path = url, path
        self._restart()

    def read_new(self) -> bytes | None:
        with user_errors(self._url, "read"):
            try:
                file = self._path.open("rb")
            except FileNotFoundError:
                return self._restart() if self._offset else b""
            with file:
                version = _version(file)
                if version == self._version:
                    return b""
                file.seek(self._offset - len(self._last))
                data = file.read()
                is_settled = version == _version(file)  # nobody has written in the meantime
        # Another version without anything new was edited in place.
        is_edited = self._version is not None and len(data) == len(self._last)
        if is_edited or not data.startswith(self._last):
            return self._restart()
        whole = _whole_lines(data[len(self._last) :])
        self._version = version if is_settled else None
        self._offset += len(whole)
        self._last = (self._last + whole)[-_COMPARED_BYTES:]
        return whole

    def append(self, lines: bytes) -> None:
        with user_errors(self._url, "write"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a+b") as file, _locked(file):
                self._end_last_line(file)
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())

    def _end_last_line(self, file: BinaryIO) -> None:
        """Cuts off what a process that was killed in the middle of a line has left."""
        size = file.seek(0, os.SEEK_END)
        start = max(size - (1 << 20), 0)
        file.seek(start)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            kept = start + len(_whole_lines(tail))
            logger.warning("cut off %d bytes of an unfinished line of %s", size - kept, self._url)
            file.truncate(kept)

    def _restart(self) -> None:
        self._version: tuple[int, ...] | None = None
        self._offset, self._last = 0, b""


@contextmanager
def _locked(file: BinaryIO) -> Iterator[None]:
    """The kernel lets go of it when the process ends; where there are no locks, appending is what
    keeps lines apart."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        if not file.closed:
            file.flush()
            fcntl.flock(file, fcntl.LOCK_UN)


def _version(file: BinaryIO) -> tuple[int, ...]:
    found = os.fstat(file.fileno())
    return found.st_ino, found.st_mtime_ns, found.st_size


class _S3Lines:
    """The whole file is written again with each line, under the condition that it is unchanged."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._seen = 0
        self._content, self._etag = b"", None

    def read_new(self) -> bytes | None:
        before = self._content[: self._seen]
        with user_errors(self._url, "read"):
            self._load()
        if not self._content.startswith(before):
            self._seen = 0
            return None
        whole = _whole_lines(self._content)
        new, self._seen = whole[len(before) :], len(whole)
        return new

    def append(self, lines: bytes) -> None:
        with user_errors(self._url, "write"):
            fs, path = filesystem(self._url)
            self._check_conditions(fs, path)
            until = time.monotonic() + _GIVE_UP_S
            pause_s = 0.01
            while True:
                content = _whole_lines(self._content) + lines
                etag = fs.put_if(path, content, self._etag)
                if etag is not None:
                    self._content, self._etag = content, etag
                    return
                self._load()
                if lines in self._content:
                    return  # it was written, and the answer to that was lost
                if time.monotonic() > until:
                    raise UserError(
                        f"cannot write {self._url}: others write to it all the time; try again"
                    )
                time.sleep(random.uniform(0, pause_s))
                pause_s = min(2 * pause_s, _MAX_PAUSE_S)

    def _load(self) -> None:
        fs, path = filesystem(self._url)
        self._content, self._etag = fs.read_tagged(path, self._content, self._etag)

    def _check_conditions(self, fs: Any, path: str) -> None:
        """Some servers write whatever the condition says: marks would be lost, so find out."""
        bucket = path.split("/", 1)[0]
        with _checking:
            if bucket in _checked_buckets:
                return
            probe = f"{path}.{secrets.token_hex(8)}"
            try:
                first = fs.put_if(probe, b"1", None)
                holds = fs.put_if(probe, b"2", None) is None and first is not None
            finally:
                fs.rm_file(probe)
            if not holds:
                raise UserError(
                    f"the server of {self._url} writes without checking conditions (If-None-Match),"
                    " so that several people would lose lines to each other; use a local file"
                )
            _checked_buckets.add(bucket)


class _OtherLines:
    """A file elsewhere, where no condition of a write is known."""

    def __init__(self, url: str) -> None:
        self._url, self._seen = url, b""

    def read_new(self) -> bytes | None:
        whole = _whole_lines(read_bytes(self._url)) if exists(self._url) else b""
        before, self._seen = self._seen, whole
        if not whole.startswith(before):
            self._seen = b""
            return None
        return whole[len(before) :]

    def append(self, lines: bytes) -> None:
        raise UserError(
            f"cannot write {self._url}: several people can write to a file on this machine or "
            "s3:// alone; choose one there"
        )


def _whole_lines(data: bytes) -> bytes:
    return data[: data.rfind(b"\n") + 1]
