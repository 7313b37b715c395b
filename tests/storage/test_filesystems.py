"""The file systems behind URLs."""

from __future__ import annotations

import sys

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError


def test_unknown_protocol_and_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"expected a local path or an fsspec URL.*nonsense"):
        storage.read_bytes("nonsense://a/b")
    monkeypatch.delitem(sys.modules, "pad_pipeline.storage.s3", raising=False)
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[s3\]'"):
        storage.read_bytes("s3://bucket/x")
    with pytest.raises(UserError, match=r"pip install 'pad-pipeline\[gcs\]'"):
        storage.check_writable("gs://bucket/x")
