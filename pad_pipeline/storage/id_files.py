"""Files that name images: an id a line."""

from __future__ import annotations

from functools import lru_cache

from pad_pipeline.errors import UserError
from pad_pipeline.storage.files import read_bytes


@lru_cache(maxsize=1)
def read_ids(url: str) -> frozenset[str]:
    """The image ids of a file, one a line; raises `UserError` where it names none."""
    text = read_bytes(url).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    ids = frozenset(line for line in text.splitlines() if line.strip())
    if not ids:
        raise UserError(f"{url} names no image: expected one image id a line")
    return ids
