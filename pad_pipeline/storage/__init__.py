"""Files on the local disk or behind any fsspec URL: join, list, read, write atomically, remove."""

from __future__ import annotations

import errno
import json
import os
import posixpath
import secrets
import shutil
import stat
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from pad_pipeline.errors import UserError
from pad_pipeline.storage.errors import (
    RetriesExhausted,
    backend_errors,
    explained,
    is_bucket_missing,
)
from pad_pipeline.storage.urls import absolute, join, local_path, protocol

__all__ = [
    "RetriesExhausted",
    "absolute",
    "backend_errors",
    "explained",
    "join",
    "local_path",
    "protocol",
]

_TEMPORARY = (".", "_tmp")
_STALE_TEMPORARY_S = 3600.0
_STALE_UPLOAD = timedelta(days=1)
_READ_AHEAD_BYTES = 8 << 20
_COPIED_BYTES = 64 << 20

# A put either happens whole or not at all there; elsewhere a temporary name is moved into place.
_ATOMIC_PUT = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oci", "oss", "r2", "hf", "memory"}
)

# Our own extras for protocols whose package does not come with the base install.
_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}


def exists(url: str) -> bool:
    """Whether a file or folder is there; raises `UserError` where that cannot be found out."""
    path = local_path(url)
    with explained(url, "look at"):
        if path is not None:
            try:
                path.stat()
            except (FileNotFoundError, NotADirectoryError):
                return False
            except ValueError:  # a NUL in the name
                return False
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:
                    return False
                raise
            return True
        return _kind(url) is not None


def is_folder(url: str) -> bool:
    """Whether `url` is a folder (or, in an object store, a prefix with something below it)."""
    path = local_path(url)
    with explained(url, "look at"):
        if path is not None:
            return path.is_dir()
        return _kind(url) == "directory"


def read_bytes(url: str) -> bytes:
    """The whole file; raises `UserError` where it is missing or unreadable."""
    path = local_path(url)
    with explained(url, "read"):
        if path is not None:
            return path.read_bytes()
        fs, remote = filesystem(url)
        return fs.cat_file(remote)


def open_read(url: str) -> BinaryIO:
    """A seekable binary file; raises `UserError` where it is missing or unreadable."""
    path = local_path(url)
    with explained(url, "read"):
        if path is not None:
            return path.open("rb")
        fs, remote = filesystem(url)
        return fs.open(remote, "rb", block_size=_READ_AHEAD_BYTES)


def write_atomic(url: str, data: bytes) -> None:
    """Writes the whole file or nothing: a process killed at any moment leaves no half file.

    Missing folders are made. Locally and on servers that can rename, `data` goes to a temporary
    name in the same folder first; an object store's put is atomic by itself.
    """
    path = local_path(url)
    with explained(url, "write"):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_local(path, data)
            return
        fs, remote = filesystem(url)
        if protocol(url) in _ATOMIC_PUT:
            fs.pipe_file(remote, data)
            return
        folder = posixpath.dirname(remote)
        fs.makedirs(folder, exist_ok=True)
        temporary = posixpath.join(folder, _temporary_name())
        try:
            fs.pipe_file(temporary, data)
            fs.mv(temporary, remote)
        finally:
            with suppress(FileNotFoundError):
                fs.rm_file(temporary)


def write_json(url: str, values: Mapping[str, Any]) -> None:
    """Writes an object as indented UTF-8 JSON, whole or not at all."""
    write_atomic(url, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())


def upload(path: Path, url: str) -> None:
    """Writes the local file to `url`, whole or not at all, without holding it in memory."""
    target = local_path(url)
    with explained(url, "write"):
        if target is not None:
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.parent / _temporary_name()
            try:
                with path.open("rb") as source, temporary.open("wb") as file:
                    shutil.copyfileobj(source, file, _COPIED_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
                _move_local(temporary, target)
            finally:
                temporary.unlink(missing_ok=True)
        elif protocol(url) in _ATOMIC_PUT:
            fs, remote = filesystem(url)
            fs.put_file(str(path), remote)
        else:
            write_atomic(url, path.read_bytes())


def download(url: str, path: Path) -> None:
    """Writes the file at `url` to the local `path`, whole or not at all; memory stays small."""
    with explained(url, "read"):
        temporary = path.parent / _temporary_name()
        try:
            with temporary.open("wb") as file, open_read(url) as source:
                shutil.copyfileobj(source, file, _COPIED_BYTES)
            _move_local(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def list_files(url: str, suffix: str = "") -> list[str]:
    """Names (not paths) of the files directly in the folder, sorted; [] when it is missing.

    Temporary and hidden names are left out.
    """
    path = local_path(url)
    with explained(url, "list"):
        if path is not None:
            try:
                with os.scandir(path) as entries:
                    names = [entry.name for entry in entries if entry.is_file()]
            except FileNotFoundError:
                return []
        else:
            fs, remote = filesystem(url)
            try:
                entries = fs.ls(remote, detail=True)
            except FileNotFoundError as error:
                if is_bucket_missing(error):
                    raise
                return []
            names = [
                posixpath.basename(entry["name"])
                for entry in entries
                # An object store may list the folder's own empty marker.
                if entry["type"] == "file" and entry["name"].strip("/") != remote.strip("/")
            ]
    return sorted(n for n in names if n.endswith(suffix) and n and not n.startswith(_TEMPORARY))


def remove(url: str) -> None:
    """Removes one file; a missing one is fine."""
    path = local_path(url)
    with explained(url, "remove"), suppress(FileNotFoundError):
        if path is not None:
            path.unlink()
        else:
            fs, remote = filesystem(url)
            fs.rm_file(remote)


def remove_tree(url: str) -> None:
    """Removes a folder with all below it; a missing one is fine."""
    path = local_path(url)
    with explained(url, "remove"), suppress(FileNotFoundError):
        if path is not None:
            shutil.rmtree(path)
        else:
            fs, remote = filesystem(url)
            fs.rm(remote, recursive=True)


def check_writable(url: str) -> None:
    """Makes the folder and writes and removes a small file in it; `UserError` where that fails.

    Also removes temporary files that killed processes left there more than an hour ago.
    """
    path = local_path(url)
    with explained(url, "write to"):
        if path is not None:
            if path.exists() and not path.is_dir():
                raise UserError(f"{url} should be a folder to write to, but it is a file")
            path.mkdir(parents=True, exist_ok=True)
            _remove_stale(path)
            probe = path / _temporary_name()
            _write_local(probe, b"\0" * 4096)
            probe.unlink()
            return
        fs, remote = filesystem(url)
        if _kind(url) == "file":
            raise UserError(f"{url} should be a folder to write to, but it is a file")
        if protocol(url) not in _ATOMIC_PUT:
            fs.makedirs(remote, exist_ok=True)
        probe_url = posixpath.join(remote, _temporary_name())
        fs.pipe_file(probe_url, b"probe")
        fs.rm_file(probe_url)
        if hasattr(fs, "abort_stale_uploads"):
            with suppress(*backend_errors()):  # not every account may list them
                fs.abort_stale_uploads(remote, _STALE_UPLOAD)


def free_bytes(url: str) -> int | None:
    """Free space for `url` (which need not exist yet) in bytes; None for a remote URL."""
    path = local_path(url)
    if path is None:
        return None
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    with explained(url, "look at"):
        return shutil.disk_usage(path).free


def version(url: str) -> str:
    """A text that differs once the file has been written again."""
    path = local_path(url)
    with explained(url, "look at"):
        if path is not None:
            found = path.stat()
            return f"{found.st_mtime_ns}-{found.st_size}"
        fs, remote = filesystem(url)
        return str(fs.ukey(remote))


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of a remote `url` and the path in it; `UserError` where none fits."""
    name = protocol(url)
    try:
        if name in ("s3", "s3a"):
            from pad_pipeline.storage.s3 import open_s3

            fs = open_s3()
            return fs, str(fs._strip_protocol(url))
        # Without a listing cache, since other processes write to the same place.
        return fsspec.core.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = _EXTRAS.get(name)
        fix = f"pip install 'pad-pipeline[{extra}]'" if extra else "install the package it names"
        raise UserError(
            f"{name}:// needs a package that is not installed ({error}): {fix}"
        ) from error
    except ValueError as error:
        raise UserError(
            f"expected a local path or an fsspec URL such as s3://bucket/path, found {url!r}: "
            f"{error}"
        ) from error


def _kind(url: str) -> str | None:
    """What a remote URL is, "file" or "directory"; None where nothing is there.

    Not by `fs.exists` and `fs.isdir`, which take any failure for "no".
    """
    fs, remote = filesystem(url)
    try:
        return fs.info(remote)["type"]
    except FileNotFoundError as error:
        if is_bucket_missing(error):
            raise
        return None


def _temporary_name() -> str:
    # Short and independent of the final name, which may already be as long as names may be.
    return f".tmp-{secrets.token_hex(8)}"


def _write_local(path: Path, data: bytes) -> None:
    temporary = path.parent / _temporary_name()
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _move_local(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _move_local(temporary: Path, path: Path) -> None:
    os.replace(temporary, path)
    _sync_folder(path.parent)


def _sync_folder(path: Path) -> None:
    # The rename itself must survive a power cut; some network file systems do not allow this.
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    oldest = time.time() - _STALE_TEMPORARY_S
    for path in folder.glob(".tmp-*"):
        with suppress(FileNotFoundError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode) and found.st_mtime < oldest:
                path.unlink()
