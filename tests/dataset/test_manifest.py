"""The manifest of a data set: written, read and checked in one place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pad_pipeline.dataset.manifest import (
    MANIFEST,
    manifest_url,
    read_manifest,
    require_manifest,
    state_of,
    write_manifest,
)
from pad_pipeline.errors import UserError

GOOD: dict[str, Any] = {"format": "pad", "schema_version": 1, "state": "running", "source": "äöü"}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    url = str(tmp_path / "set")
    assert read_manifest(url) == {}
    with pytest.raises(UserError, match="is not a data set of this program: it has no _manifest"):
        require_manifest(url)
    write_manifest(url, GOOD)
    assert manifest_url(url) == f"{url}/{MANIFEST}"
    assert read_manifest(url) == require_manifest(url) == GOOD
    text = Path(url, MANIFEST).read_text(encoding="utf-8")
    assert text == json.dumps(GOOD, indent=2, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "is not valid JSON"),
        ("[]", "not the manifest of a PAD data set"),
        ('{"format": "coco"}', "not the manifest of a PAD data set"),
        ('{"format": "pad", "schema_version": 4}', "schema version 4, and this release supports"),
        ('{"format": "pad", "schema_version": 1, "shards": {}}', '"shards" is not a list'),
        ('{"format": "pad", "schema_version": 1, "shards": [{}]}', '"shards" is not a list'),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(UserError, match=f"_manifest.json .*{message}"):
        read_manifest(str(tmp_path))


@pytest.mark.parametrize(
    ("state", "expected"),
    [("running", "running"), ("finished", "finished"), ("?", "unknown"), (None, "unknown")],
)
def test_states(state: str | None, expected: str) -> None:
    assert state_of({**GOOD, "state": state}) == expected
    assert state_of({}) == "unknown"
