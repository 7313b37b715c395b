"""Byte ranges of local and remote files, near ones together and remote ones concurrently."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

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
    wanted = [
        (span[0], span[1], index)
        for index, span in enumerate(spans)
        if not isinstance(span, Exception) and span[1] <= MAX_ITEM_BYTES
    ]
    requests = _merge(sorted(wanted))
    edges = [(parts[0][0], max(offset + size for offset, size, _ in parts)) for parts in requests]
    for parts, (start, _), block in zip(requests, edges, _blocks(url, edges), strict=True):
        for offset, size, index in parts:
            items[index] = (
                block[offset - start : offset - start + size] if isinstance(block, bytes) else block
            )
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


def _merge(wanted: Sequence[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    """Sorted (offset, size, index) in groups that one request reads: small gaps, bounded size."""
    groups: list[list[tuple[int, int, int]]] = []
    end = 0
    for offset, size, index in wanted:
        near = groups and offset - end <= _LARGEST_GAP
        if near and max(end, offset + size) - groups[-1][0][0] <= _LARGEST_REQUEST:
            groups[-1].append((offset, size, index))
            end = max(end, offset + size)
        else:
            groups.append([(offset, size, index)])
            end = offset + size
    return groups


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
