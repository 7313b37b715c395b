"""Files in a folder and everything below it, local or remote."""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pad_pipeline import storage
from pad_pipeline.dataset.manifest import is_dataset
from pad_pipeline.sources.left_out import LeftOut
from pad_pipeline.sources.rows import utf8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file below a folder: its relative path, its full path or URL, its size (-1: not known)."""

    relative: str
    url: str
    size: int


def walk(
    folder: str, wanted: Callable[[str], bool], left_out: LeftOut | None = None
) -> Iterator[FoundFile]:
    """The files below `folder` whose name is `wanted`, ordered by path components.

    Holds the names of one folder (and its parents) at a time.

    Hidden files and folders are left out, and so are data sets of this program below `folder`:
    `left_out` counts what is. A link to a folder is followed once, and only where it
    leads out of the tree, so that loops end and nothing is listed under two ids.
    """
    path = storage.local_path(folder)
    left_out = LeftOut() if left_out is None else left_out
    if path is not None:
        root = os.path.realpath(path)
        yield from _walk_local(os.path.abspath(path), "", {root}, root, wanted, left_out)
    else:
        fs, remote = storage.filesystem(folder)
        for relative, size in _walk_remote(fs, remote, folder, "", wanted, left_out):
            yield FoundFile(relative, storage.join(folder, relative), size)


def _walk_local(
    folder: str,
    prefix: str,
    followed: set[str],
    root: str,
    wanted: Callable[[str], bool],
    left_out: LeftOut,
) -> Iterator[FoundFile]:
    with os.scandir(folder) as scan:
        entries = sorted((e.name, _is_dir(e), e.is_symlink(), _size(e)) for e in scan)
    if prefix and is_dataset(folder, {name for name, *_ in entries}):
        left_out.num_datasets += 1
        return
    for name, is_dir, is_link, size in entries:
        if name[0] == ".":
            left_out.add(name)
            continue
        path = os.path.join(folder, name)
        relative = prefix + name
        if is_dir:
            if is_link:
                target = os.path.realpath(path)
                if target in followed or _is_within(target, root) or _is_within(root, target):
                    logger.warning("not followed: %s links to %s", utf8(path), utf8(target))
                    continue
                followed.add(target)
            yield from _walk_local(path, relative + "/", followed, root, wanted, left_out)
        elif wanted(name):
            yield FoundFile(relative, path, size)
        else:
            left_out.add(name)


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link that leads nowhere
        return -1


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def _walk_remote(
    fs: Any,
    folder: str,
    url: str,
    prefix: str,
    wanted: Callable[[str], bool],
    left_out: LeftOut,
) -> Iterator[tuple[str, int]]:
    entries = []
    for entry in fs.ls(folder, detail=True):
        name = posixpath.basename(entry["name"].rstrip("/"))
        # An object store may list the folder's own empty marker among its content.
        if name and entry["name"].strip("/") != folder.strip("/"):
            size = entry.get("size")
            entries.append((name, entry["type"], entry["name"], -1 if size is None else size))
    if prefix and is_dataset(url, {name for name, *_ in entries}):
        left_out.num_datasets += 1
        return
    for name, kind, path, size in sorted(entries):
        if name[0] == ".":
            left_out.add(name)
        elif kind == "directory":
            below = storage.join(url, name)
            yield from _walk_remote(fs, path, below, f"{prefix}{name}/", wanted, left_out)
        elif wanted(name):
            yield prefix + name, size
        else:
            left_out.add(name)
