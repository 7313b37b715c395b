"""The settings of the service, and its API key."""

from __future__ import annotations

from pathlib import Path

import pytest

from pad_pipeline.errors import UserError
from pad_pipeline.serve.config import API_KEY_VARIABLE, ServiceConfig, read_api_key


@pytest.mark.parametrize(
    "changes",
    [
        {"port": -1},
        {"port": 65536},
        {"max_queued": 0},
        {"max_body_bytes": 0},
        {"batch_wait_s": -1.0},
        {"batch_wait_s": float("nan")},
        {"timeout_s": 0.0},
        {"timeout_s": float("nan")},
    ],
)
def test_values_that_cannot_work_are_refused_by_their_field(changes: dict) -> None:
    [name] = changes
    with pytest.raises(UserError, match=f"^{name} must"):
        ServiceConfig(**changes)


def test_the_key_comes_from_the_file_else_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(API_KEY_VARIABLE, raising=False)
    assert read_api_key(ServiceConfig()) is None
    monkeypatch.setenv(API_KEY_VARIABLE, "from-environment")
    assert read_api_key(ServiceConfig()) == "from-environment"
    file = tmp_path / "key"
    file.write_text("from-file \nsecond line\n")
    assert read_api_key(ServiceConfig(api_key_file=str(file))) == "from-file"


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", "ключ".encode(), b"\xff\xfe"])
def test_a_key_that_no_header_can_hold_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(UserError, match="API key"):
        read_api_key(ServiceConfig(api_key_file=str(file)))


def test_an_empty_variable_does_not_open_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY_VARIABLE, "")
    with pytest.raises(UserError, match=f"{API_KEY_VARIABLE}, found nothing"):
        read_api_key(ServiceConfig())


def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read an API key from .*nowhere"):
        read_api_key(ServiceConfig(api_key_file=str(tmp_path / "nowhere")))
