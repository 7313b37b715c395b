"""A missing golden set fails the tests that need it unless the environment allows it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import golden_data


def test_a_missing_set_fails_unless_sets_are_optional(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden_data, "GOLDEN", tmp_path)
    (tmp_path / "here").mkdir()
    for value in ("1", "0", None):
        if value is None:
            monkeypatch.delenv("PAD_GOLDEN_OPTIONAL", raising=False)
        else:
            monkeypatch.setenv("PAD_GOLDEN_OPTIONAL", value)
        assert golden_data.golden_dir("here") == tmp_path / "here"
        expected = pytest.skip.Exception if value == "1" else FileNotFoundError
        with pytest.raises(expected, match="'absent' is not in"):
            golden_data.golden_dir("absent")
