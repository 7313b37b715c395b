"""New files and folders that appear whole: written aside, then renamed, never over another."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from pad_pipeline import storage
from pad_pipeline.errors import UserError


def refuse_existing(dest: str) -> None:
    """Raises `UserError` where something is at `dest` already."""
    if storage.exists(dest):
        raise UserError(f"{dest} exists already: remove it or choose another destination")


@contextmanager
def new_file(dest: str) -> Iterator[BinaryIO]:
    """A binary file to write; it gets the name `dest` only if the block ends without an error.

    For a remote `dest` it is a temporary local file, sent in one piece at the end. Raises
    `UserError` where `dest` exists or cannot be written.
    """
    refuse_existing(dest)
    path = storage.local_path(dest)
    with storage.explained(dest, "write"):
        if path is None:
            fs, remote = storage.filesystem(dest)
            with tempfile.NamedTemporaryFile() as temporary:
                yield cast(BinaryIO, temporary)
                temporary.flush()
                fs.put_file(temporary.name, remote)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.parent / f".tmp-{secrets.token_hex(8)}"
        try:
            with aside.open("wb") as file:
                yield file
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)


@contextmanager
def new_folder(dest: str) -> Iterator[str]:
    """A folder to fill; it gets the name `dest` only if the block ends without an error.

    The URL to write into is yielded. A remote folder cannot be renamed in one step: there it is
    `dest` itself, and only its single files appear whole. Raises `UserError` where `dest` exists.
    """
    refuse_existing(dest)
    path = storage.local_path(dest)
    if path is None:
        yield dest
        return
    with storage.explained(dest, "write"):
        path = path.absolute()
        aside = path.parent / f".tmp-{secrets.token_hex(8)}"
        aside.mkdir(parents=True)
        try:
            yield str(aside)
            os.rename(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
