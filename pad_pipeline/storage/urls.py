"""Paths and URLs as text: which are local, and how they are joined."""

from __future__ import annotations

import os
from pathlib import Path


def local_path(url: str) -> Path | None:
    """The path on this machine's disk, or None for a URL of another protocol."""
    for prefix in ("file://", "local://"):
        if url.startswith(prefix):
            return Path(url.removeprefix(prefix))
    return None if "://" in url else Path(url).expanduser()


def absolute(url: str) -> str:
    """The same place for a process with another working directory; URLs are so already."""
    path = local_path(url)
    return os.path.abspath(path) if path is not None else url


def join(base: str, *parts: str) -> str:
    """`base` with `parts` below it, separated by "/"; a leading "/" of a part has no effect."""
    url = base
    for part in parts:
        part = part.strip("/")
        if part:
            url = part if not url else url + part if url.endswith("/") else f"{url}/{part}"
    return url


def protocol(url: str) -> str:
    """The URL's protocol ("s3"), "file" for a local path."""
    return "file" if local_path(url) is not None else url.split("://", 1)[0].split("::", 1)[0]
