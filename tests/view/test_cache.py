"""The cache of pictures and pixels."""

from __future__ import annotations

from pad_pipeline.view.cache import ByteCache


def test_a_value_is_made_once_and_the_longest_unused_goes_first() -> None:
    made: list[str] = []

    def get(key: str) -> str:
        return cache.get(key, lambda: made.append(key) or key, len)

    cache = ByteCache(max_bytes=6)
    assert [get(key) for key in ("aaa", "bbb", "aaa")] == ["aaa", "bbb", "aaa"]
    assert made == ["aaa", "bbb"]
    get("cc")  # there is room for two of them: the one that was not used again goes
    get("aaa")
    assert made == ["aaa", "bbb", "cc"]
    get("bbb")
    assert made == ["aaa", "bbb", "cc", "bbb"]


def test_what_is_larger_than_the_cache_is_not_kept() -> None:
    cache = ByteCache(max_bytes=3)
    cache.put("small", b"abc", 3)
    cache.put("large", b"abcd", 4)
    assert cache.get("small", lambda: b"new", len) == b"abc"
    assert cache.get("large", lambda: b"new", len) == b"new"
