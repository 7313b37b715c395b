"""Images as base64 in lines of JSONL, read by position."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from pad_pipeline import storage
from pad_pipeline.errors import UserError
from pad_pipeline.sources.entries import read_line
from pad_pipeline.sources.members import member_names
from pad_pipeline.sources.ranges import MAX_ITEM_BYTES, Item, read_ranges
from pad_pipeline.sources.rows import ManifestRow


def read_jsonl(url: str, rows: Sequence[ManifestRow]) -> list[Item]:
    """The bytes of each row's image; an exception in place of one that cannot be read."""
    members = [name.rpartition("/") for name in member_names(rows)]
    lines = read_ranges(
        url, [_line(url, row, member[2]) for row, member in zip(rows, members, strict=True)]
    )
    items: list[Item] = []
    for (key, _, offset), line in zip(members, lines, strict=True):
        try:
            if isinstance(line, Exception):
                raise line
            items.append(base64.b64decode(json.loads(line)[key], validate=True))
        except (
            *(UserError, ValueError, TypeError, LookupError, RecursionError),
            *storage.backend_errors(),
        ) as error:
            items.append(OSError(f"no base64 image at byte {offset} of {url}: {error}"))
    return items


def _line(url: str, row: ManifestRow, offset: str) -> tuple[int, int] | Exception:
    """Where a line of JSONL lies; its length is looked for where the row does not say."""
    try:
        start, size = int(offset), row.size
        if size < 0:
            with storage.open_read(url) as file:
                file.seek(start)
                size = len(read_line(file, MAX_ITEM_BYTES + 1))
        return start, size
    except (UserError, ValueError, OverflowError, *storage.backend_errors()) as error:
        return error
