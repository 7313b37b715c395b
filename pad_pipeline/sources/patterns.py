"""Braces and globs in a source's path: `shards/{00000..00099}.tar`, `s3://bucket/*.parquet`."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator

from braceexpand import braceexpand

from pad_pipeline import storage
from pad_pipeline.errors import UserError

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(?:(-?\d+)\.\.(-?\d+)|[A-Za-z]\.\.[A-Za-z])(?:\.\.-?\d+)?")
_GLOB = re.compile(r"[*?\[]")
_MOST_FILES = 1_000_000


def expand(source: str) -> tuple[str, list[str]]:
    """The folder that ids are relative to, and the paths or URLs that `source` stands for.

    A name that exists as it stands is taken as it stands. Braces keep the order that they name,
    globs are sorted. Raises `UserError` where nothing matches or a file named by braces is missing.
    """
    magic = min((m.start() for m in (_GLOB.search(source), _braces(source)) if m), default=None)
    if magic is None or storage.exists(source):
        if not storage.exists(source):
            raise UserError(
                f"no such source: {source} (expected a folder, an image, a .zip, .tar, .parquet, "
                f".arrow, .jsonl or LLaVA .json file, or a pattern of them)"
            )
        return source.rstrip("/").rpartition("/")[0], [source]
    base = source[:magic].rpartition("/")[0]
    found = []
    for pattern in _expand_braces(source):
        if _GLOB.search(pattern):
            found.extend(_glob(pattern))
        elif storage.exists(pattern):
            found.append(pattern)
        else:
            raise UserError(f"{source} stands for {pattern} among others, which does not exist")
        if len(found) > _MOST_FILES:
            raise UserError(f"{source} stands for more than {_MOST_FILES:,} files")
    if not found:
        raise UserError(f"nothing matches {source}")
    return base, list(dict.fromkeys(found))


def _braces(text: str) -> re.Match[str] | None:
    """The first braces that hold a list or a range; others are part of a name."""
    return next((m for m in _BRACES.finditer(text) if "," in m[1] or _RANGE.fullmatch(m[1])), None)


def _expand_braces(text: str) -> Iterator[str]:
    # braceexpand makes every range whole before its first name
    for match in _BRACES.finditer(text):
        span = _RANGE.fullmatch(match[1])
        if span and span[1] and abs(int(span[2]) - int(span[1])) >= _MOST_FILES:
            raise UserError(f"{text} stands for more than {_MOST_FILES:,} files")
    try:
        yield from braceexpand(text, escape=False)
    except ValueError as error:
        raise UserError(f"{text}: expected a closing brace for every opening one") from error


def _glob(pattern: str) -> list[str]:
    path = storage.local_path(pattern)
    if path is not None:
        return sorted(glob.glob(os.fspath(path), recursive=True))
    magic = _GLOB.search(pattern)
    assert magic is not None
    base = pattern[: magic.start()].rpartition("/")[0]
    with storage.user_errors(pattern, "list"):
        fs, remote = storage.filesystem(pattern)
        root = storage.filesystem(base)[1] if not base.endswith(":/") else ""
        return sorted(storage.join(base, path[len(root) :]) for path in fs.glob(remote))
