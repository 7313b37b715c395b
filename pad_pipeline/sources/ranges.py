"""Byte ranges of local and remote files, near ones together and remote ones concurrently."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fsspec.utils import merge_offset_ranges

from pad_pipeline import storage
from pad_pipeline.errors import UserError

MAX_ITEM_BYTES = 512 << 20
"""Larger items are not read: no image is that large, and memory is shared by many readers."""

_REMOTE_THREADS = 16
_LARGEST_GAP = 64 << 10
_LARGEST_REQUEST = 8 << 20

Item = bytes | Exception
Span = tuple[int, int]
"""Offset and size in bytes."""


def read_ranges(url: str, spans: Sequence[Span | Exception]) -> list[Item]:
    """The bytes of each span of one file; fewer at its end. An exception keeps its place."""
    items: list[Item] = [
        span if isinstance(span, Exception) else too_large(span[1]) for span in spans
    ]
    wanted = sorted(
        (span[0], span[0] + span[1], index)
        for index, span in enumerate(spans)
        if not isinstance(span, Exception) and span[1] <= MAX_ITEM_BYTES
    )
    _, starts, ends = merge_offset_ranges(
        [url] * len(wanted),
        [start for start, _, _ in wanted],
        [end for _, end, _ in wanted],
        max_gap=_LARGEST_GAP,
        max_block=_LARGEST_REQUEST,
        sort=False,
    )
    edges = [(start, end) for start, end in zip(starts, ends, strict=True) if end is not None]
    blocks = _blocks(url, edges)
    for start, end, index in wanted:
        # Blocks are in order and each range lies whole in the last that begins at or before it.
        number = bisect_right(starts, start) - 1
        block = blocks[number]
        first = start - starts[number]
        items[index] = block[first : first + end - start] if isinstance(block, bytes) else block
    return items


def fetch(requests: Sequence[tuple[str, int | None, int | None]]) -> list[Item]:
    """The byte ranges [start, end) of remote URLs of one place; whole where both are None."""
    if not requests:
        return []
    try:
        fs: Any = storage.filesystem(requests[0][0])[0]
    except UserError as error:
        return [error] * len(requests)
    paths = [fs._strip_protocol(url) for url, _, _ in requests]
    starts = [start for _, start, _ in requests]
    ends = [end for _, _, end in requests]
    # "return" has fsspec itself catch what a backend raises, whose types we cannot all know.
    if fs.async_impl:
        return fs.cat_ranges(paths, starts, ends, on_error="return")
    with ThreadPoolExecutor(min(_REMOTE_THREADS, len(paths))) as pool:
        return list(
            pool.map(
                lambda path, start, end: fs.cat_ranges([path], [start], [end], on_error="return")[
                    0
                ],
                paths,
                starts,
                ends,
            )
        )


def too_large(size: int) -> OSError:
    """The error for an item beyond `MAX_ITEM_BYTES`."""
    return OSError(f"{size:,} bytes are more than the {MAX_ITEM_BYTES:,} that one image may have")


def _blocks(url: str, edges: Sequence[tuple[int, int]]) -> list[Item]:
    path = storage.local_path(url)
    if path is None:
        return fetch([(url, start, end) for start, end in edges])
    if not edges:
        return []
    try:
        with path.open("rb") as file:
            descriptor = file.fileno()
            return [os.pread(descriptor, end - start, start) for start, end in edges]
    except (OSError, OverflowError) as error:  # OverflowError: an offset beyond 63 bits
        return [error] * len(edges)
