"""Files and folders that appear whole or not at all: written aside, then renamed into place."""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast

from pad_pipeline.errors import UserError
from pad_pipeline.storage.errors import backend_errors, user_errors
from pad_pipeline.storage.files import exists, open_read
from pad_pipeline.storage.filesystems import filesystem, puts_are_atomic, remote_kind
from pad_pipeline.storage.urls import local_path

STALE_UPLOAD = timedelta(days=1)

_PREFIX = ".tmp-"
_STALE_S = 3600.0
_COPIED_BYTES = 64 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, for a file or folder that the block makes there.

    It is renamed to `path`, replacing a file or an empty folder, if the block ends without an
    error, and removed otherwise. Raises `OSError`.
    """
    temporary = path.parent / _temporary_name()
    try:
        yield temporary
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def write_local(path: Path, data: bytes) -> None:
    """Replaces a file of this machine; a process killed at any moment leaves the old or the new."""
    with replacing(path) as temporary, _durable(temporary) as file:
        file.write(data)


def write_atomic(url: str, data: bytes) -> None:
    """Writes the whole file or nothing: a process killed at any moment leaves no half file.

    Missing folders are made. Locally and on servers that can rename, `data` goes to a temporary
    name in the same folder first; an object store's put is atomic by itself.
    """
    path = local_path(url)
    with user_errors(url, "write"):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_local(path, data)
        else:
            with _remote_target(url) as (fs, remote):
                fs.pipe_file(remote, data)


def write_json(url: str, values: Mapping[str, Any]) -> None:
    """Writes an object as indented UTF-8 JSON, whole or not at all."""
    write_atomic(url, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def upload(path: Path, url: str) -> None:
    """Writes the local file to `url`, whole or not at all, without holding it in memory."""
    target = local_path(url)
    with user_errors(url, "write"):
        if target is None:
            with _remote_target(url) as (fs, remote):
                fs.put_file(str(path), remote)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, replacing(target) as temporary, _durable(temporary) as file:
            shutil.copyfileobj(source, file, _COPIED_BYTES)


def download(url: str, path: Path) -> None:
    """Writes the file at `url` to the local `path`, whole or not at all; memory stays small."""
    with (
        user_errors(url, "read"),
        replacing(path) as temporary,
        temporary.open("wb") as file,
        open_read(url) as source,
    ):
        shutil.copyfileobj(source, file, _COPIED_BYTES)


def refuse_existing(dest: str) -> None:
    """Raises `UserError` where something is at `dest` already."""
    if exists(dest):
        raise UserError(f"{dest} already exists; remove it or choose another destination")


@contextmanager
def new_file(dest: str) -> Iterator[BinaryIO]:
    """A binary file to write; it gets the name `dest` only if the block ends without an error.

    For a remote `dest` it is a temporary local file, sent at the end. Raises `UserError` where
    `dest` exists or cannot be written.
    """
    refuse_existing(dest)
    path = local_path(dest)
    with user_errors(dest, "write"):
        if path is None:
            with tempfile.NamedTemporaryFile() as temporary:
                yield cast(BinaryIO, temporary)
                temporary.flush()
                upload(Path(temporary.name), dest)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, _durable(temporary) as file:
            yield file


@contextmanager
def new_folder(dest: str) -> Iterator[str]:
    """A folder to fill; it gets the name `dest` only if the block ends without an error.

    The URL to write into is yielded. A remote folder cannot be renamed in one step: there it is
    `dest` itself, and only its single files appear whole. Raises `UserError` where `dest` exists.
    """
    refuse_existing(dest)
    path = local_path(dest)
    if path is None:
        yield dest
        return
    with user_errors(dest, "write"), replacing(path.absolute()) as temporary:
        temporary.mkdir(parents=True)
        yield str(temporary)


def check_writable(url: str) -> None:
    """Makes the folder and writes and removes a small file in it; `UserError` where that fails.

    Also removes temporary files that killed processes left there more than an hour ago.
    """
    path = local_path(url)
    with user_errors(url, "write to"):
        if path is not None:
            if path.exists() and not path.is_dir():
                raise UserError(f"{url} should be a folder to write to, but it is a file")
            path.mkdir(parents=True, exist_ok=True)
            remove_temporary_files(path)
            probe = path / _temporary_name()
            write_local(probe, b"\0" * 4096)
            probe.unlink()
            return
        fs, remote = filesystem(url)
        if remote_kind(url) == "file":
            raise UserError(f"{url} should be a folder to write to, but it is a file")
        if not puts_are_atomic(url):
            fs.makedirs(remote, exist_ok=True)
        probe_url = posixpath.join(remote, _temporary_name())
        fs.pipe_file(probe_url, b"probe")
        fs.rm_file(probe_url)
        if hasattr(fs, "abort_stale_uploads"):
            with suppress(*backend_errors()):  # not every account may list them
                fs.abort_stale_uploads(remote, STALE_UPLOAD)


def remove_temporary_files(
    folder: Path, older_than_s: float = _STALE_S, *, folders: bool = False
) -> None:
    """Removes files, and folders if so wanted, of that age which killed processes left there."""
    oldest = time.time() - older_than_s
    for path in folder.glob(f"{_PREFIX}*"):
        with suppress(FileNotFoundError):
            found = path.lstat()
            if found.st_mtime > oldest:
                continue
            if stat.S_ISREG(found.st_mode):
                path.unlink()
            elif folders and stat.S_ISDIR(found.st_mode):
                shutil.rmtree(path)


def _temporary_name() -> str:
    # Short and independent of the final name, which may already be as long as names may be.
    return f"{_PREFIX}{secrets.token_hex(8)}"


@contextmanager
def _durable(path: Path) -> Iterator[BinaryIO]:
    """A new file that is on the disk when the block has ended."""
    with path.open("wb") as file:
        yield file
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _remote_target(url: str) -> Iterator[tuple[Any, str]]:
    """The file system and the path that the block writes to: `url`, or what is moved there then."""
    fs, remote = filesystem(url)
    if puts_are_atomic(url):
        yield fs, remote
        return
    folder = posixpath.dirname(remote)
    fs.makedirs(folder, exist_ok=True)
    temporary = posixpath.join(folder, _temporary_name())
    try:
        yield fs, temporary
        fs.mv(temporary, remote)
    finally:
        with suppress(FileNotFoundError):
            fs.rm_file(temporary)


def _sync_folder(path: Path) -> None:
    # The rename itself must survive a power cut; some network file systems do not allow this.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
