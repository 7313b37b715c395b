"""Failures as messages for users."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from pad_pipeline import storage
from pad_pipeline.errors import UserError


def test_backend_errors_become_user_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    class ClientError(Exception):
        pass

    backend: Any = ModuleType("botocore.exceptions")
    backend.BotoCoreError = type("NoCredentialsError", (Exception,), {})
    backend.ClientError = ClientError
    monkeypatch.setitem(sys.modules, "botocore.exceptions", backend)
    with pytest.raises(UserError, match="cannot read s3://b/x: no valid credentials"):  # noqa: SIM117
        with storage.user_errors("s3://b/x", "read"):
            raise backend.BotoCoreError("Unable to locate credentials")
    with pytest.raises(UserError, match="cannot read s3://b/x: SlowDown"):  # noqa: SIM117
        with storage.user_errors("s3://b/x", "read"):
            raise ClientError("SlowDown")
    with pytest.raises(ZeroDivisionError), storage.user_errors("s3://b/x", "read"):
        raise ZeroDivisionError  # a bug of ours stays one
    with pytest.raises(UserError, match="no such bucket"), storage.user_errors("s3://b/x", "read"):
        raise FileNotFoundError("The specified bucket does not exist")
