"""Paths and URLs as text."""

from __future__ import annotations

from pathlib import Path

from pad_pipeline import storage


def test_join() -> None:
    assert storage.join("/a/b/", "/c/", "", "d.txt") == "/a/b/c/d.txt"
    assert storage.join("s3://bucket", "x", "y z") == "s3://bucket/x/y z"
    assert storage.join("memory://", "x") == "memory://x"
    assert storage.join("/", "x") == "/x"
    assert storage.join("", "x") == "x"
    assert storage.join("a") == "a"


def test_local_path() -> None:
    assert storage.local_path("a/b c") == Path("a/b c")
    assert storage.local_path("file:///a/b") == Path("/a/b")
    assert storage.local_path("~/x") == Path.home() / "x"
    assert storage.local_path("a::b") == Path("a::b")
    assert storage.local_path("s3://a/b") is None
    assert storage.protocol("s3://a/b") == "s3"
    assert storage.protocol("/a/b") == "file"
