"""Byte ranges of one file, read in merged requests."""

from __future__ import annotations

import random
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from pad_pipeline import storage
from pad_pipeline.sources import ranges

CONTENT = random.Random(0).randbytes(5000)


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    path = tmp_path_factory.mktemp("ranges") / "file"
    path.write_bytes(CONTENT)
    storage.write_atomic("memory://ranges/file", CONTENT)
    return [str(path), "memory://ranges/file"]


@given(
    spans=st.lists(st.tuples(st.integers(0, 5200), st.integers(0, 900)), max_size=30),
    gap=st.integers(0, 300),
    request_bytes=st.integers(1, 1500),
)
@settings(deadline=None)
def test_any_spans_are_read_as_they_lie(
    urls: list[str], spans: list[tuple[int, int]], gap: int, request_bytes: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "_LARGEST_GAP", gap)
        patch.setattr(ranges, "_LARGEST_REQUEST", request_bytes)
        for url in urls:
            expected = [CONTENT[start : start + size] for start, size in spans]
            assert ranges.read_ranges(url, spans) == expected


def test_errors_keep_their_place_and_what_is_near_is_one_request(
    urls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    del urls  # the file in memory is there
    requests: list[tuple[int, int]] = []
    read = MemoryFileSystem.cat_ranges

    def cat_ranges(
        self: MemoryFileSystem, paths: list[str], starts: list[int], ends: list[int], **options: Any
    ):
        requests.extend(zip(starts, ends, strict=True))
        return read(self, paths, starts, ends, **options)

    monkeypatch.setattr(MemoryFileSystem, "cat_ranges", cat_ranges)
    error = OSError("no such member")
    items = ranges.read_ranges(
        "memory://ranges/file", [(100, 50), error, (0, 60), (10, 1 << 40), (70, 10)]
    )
    assert items[:3] == [CONTENT[100:150], error, CONTENT[:60]]
    assert isinstance(items[3], OSError)
    assert "more than" in str(items[3])
    assert items[4] == CONTENT[70:80]
    assert requests == [(0, 150)]
