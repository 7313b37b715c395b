"""Looking for, reading, listing and removing files, locally or behind any fsspec URL."""

from __future__ import annotations

import errno
import os
import posixpath
import shutil
from contextlib import suppress
from typing import BinaryIO

from pad_pipeline.storage.errors import is_bucket_missing, user_errors
from pad_pipeline.storage.filesystems import filesystem, remote_kind
from pad_pipeline.storage.urls import local_path

_HIDDEN = (".", "_tmp")
_READ_AHEAD_BYTES = 8 << 20


def exists(url: str) -> bool:
    """Whether a file or folder is there; raises `UserError` where that cannot be found out."""
    path = local_path(url)
    with user_errors(url, "access"):
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
        return remote_kind(url) is not None


def is_folder(url: str) -> bool:
    """Whether `url` is a folder (or, in an object store, a prefix with something below it)."""
    path = local_path(url)
    with user_errors(url, "access"):
        if path is not None:
            return path.is_dir()
        return remote_kind(url) == "directory"


def read_bytes(url: str) -> bytes:
    """The whole file; raises `UserError` where it is missing or unreadable."""
    path = local_path(url)
    with user_errors(url, "read"):
        if path is not None:
            return path.read_bytes()
        fs, remote = filesystem(url)
        return fs.cat_file(remote)


def open_read(url: str) -> BinaryIO:
    """A seekable binary file; raises `UserError` where it is missing or unreadable."""
    path = local_path(url)
    with user_errors(url, "read"):
        if path is not None:
            return path.open("rb")
        fs, remote = filesystem(url)
        return fs.open(remote, "rb", block_size=_READ_AHEAD_BYTES)


def list_files(url: str, suffix: str = "") -> list[str]:
    """Names (not paths) of the files directly in the folder, sorted; [] when it is missing.

    Temporary and hidden names are left out.
    """
    path = local_path(url)
    with user_errors(url, "list"):
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
    return sorted(n for n in names if n.endswith(suffix) and n and not n.startswith(_HIDDEN))


def remove(url: str) -> None:
    """Removes one file; a missing one is fine."""
    path = local_path(url)
    with user_errors(url, "remove"), suppress(FileNotFoundError):
        if path is not None:
            path.unlink()
        else:
            fs, remote = filesystem(url)
            fs.rm_file(remote)


def remove_tree(url: str) -> None:
    """Removes a folder with all below it; a missing one is fine."""
    path = local_path(url)
    with user_errors(url, "remove"), suppress(FileNotFoundError):
        if path is not None:
            shutil.rmtree(path)
        else:
            fs, remote = filesystem(url)
            fs.rm(remote, recursive=True)


def version(url: str) -> str:
    """A text that differs once the file has been written again."""
    path = local_path(url)
    with user_errors(url, "access"):
        if path is not None:
            found = path.stat()
            return f"{found.st_mtime_ns}-{found.st_size}"
        fs, remote = filesystem(url)
        return str(fs.ukey(remote))
